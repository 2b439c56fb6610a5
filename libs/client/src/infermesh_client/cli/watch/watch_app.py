"""Defines the command lines of `infermesh top`, `infermesh ui` and `infermesh explain`."""

from typing import Annotated

import typer

from infermesh_client.cli.help_texts import MEASURE, MESH, examples
from infermesh_client.cli.options import AsJson, Endpoint

watch_app = typer.Typer()


@watch_app.command(rich_help_panel=MESH)
def top(endpoint: Endpoint = None) -> None:
    """Watch the mesh in a view that fills the terminal, with the last two minutes as sparklines. q ends it."""
    from infermesh_client.cli.watch.top import run_top  # noqa: PLC0415 - each subcommand loads only what it needs

    run_top(endpoint)


@watch_app.command(rich_help_panel=MESH, epilog=examples("infermesh ui", "infermesh ui --no-browser"))
def ui(
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser",
            help="Whether to open the page, or only to print its address, with the secret that lets you manage.",
        ),
    ] = True,
) -> None:
    """Open the mesh's page in a browser: chat, compare devices, and see the mesh work and manage it."""
    from infermesh_client.cli.watch.ui import run_ui  # noqa: PLC0415

    run_ui(browser=browser)


@watch_app.command(
    rich_help_panel=MEASURE,
    epilog=examples("infermesh explain", "infermesh explain 3f1b8c52-9d0e-4a67-8e21-b6c4d7a90f13"),
)
def explain(
    request_id: Annotated[
        str,
        typer.Argument(
            help="The request's id: what the header x-request-id of its answer says. Without it, the newest are listed."
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many requests to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what became of a request: who answered and why, how long each part took, and how it was sampled."""
    from infermesh_client.cli.watch.explain import run_explain  # noqa: PLC0415

    run_explain(request_id, limit=limit, as_json=as_json)
