"""Defines the command line of `infermesh keys`."""

from datetime import datetime
from typing import Annotated

import typer

from infermesh_client.cli.help_texts import examples
from infermesh_client.cli.options import AsJson

keys_app = typer.Typer(
    help="Create, list and revoke API keys. While there are none, the mesh answers every request.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Name of the key's owner: letters, digits and . _ @ -")]


@keys_app.command(
    "create",
    epilog=examples(
        "infermesh keys create ada",
        "infermesh keys create ada --models qwen3 --expires 2027-01-31",
        "infermesh keys create operator --admin",
    ),
)
def create(  # noqa: PLR0917 - the options of a command
    name: Name,
    models: Annotated[
        str, typer.Option(help="Models and aliases that it allows, separated by commas; default: all.")
    ] = "",
    devices: Annotated[
        str, typer.Option(help="Devices that it allows, separated by commas: cpu, gpu, xpu, cuda; default: all.")
    ] = "",
    max_priority: Annotated[
        int, typer.Option(help="Highest priority that its requests may have; larger is served first.")
    ] = 0,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Most requests a minute; default: no limit.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Most tokens a minute, prompts and answers together; default: no limit.")
    ] = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="Let it manage the mesh: drain endpoints, load and unload models, see receipts."),
    ] = False,
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="When it expires, in local time; default: never."),
    ] = None,
) -> None:
    """Create a key and print it, once. The running mesh accepts it within about a second."""
    from infermesh_client.cli.access.keys import run_create  # noqa: PLC0415 - each subcommand loads only what it needs

    run_create(
        name,
        models=models,
        devices=devices,
        max_priority=max_priority,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        admin=admin,
        expires=expires,
    )


@keys_app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the keys and what they allow. The keys themselves are not stored."""
    from infermesh_client.cli.access.keys import run_list  # noqa: PLC0415

    run_list(as_json=as_json)


@keys_app.command("revoke")
def revoke(name: Name) -> None:
    """Revoke a key. The running mesh refuses it within about a second."""
    from infermesh_client.cli.access.keys import run_revoke  # noqa: PLC0415

    run_revoke(name)
