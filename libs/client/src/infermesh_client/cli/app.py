"""Defines the command line of `infermesh`: its subcommands, their arguments and their help."""

import signal
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from infermesh_client.cli.access.keys_app import keys_app
from infermesh_client.cli.boundary import ErrorReportingGroup, Terminated
from infermesh_client.cli.chat.chat_app import chat_app
from infermesh_client.cli.completion import completing
from infermesh_client.cli.completion.bash_words import whole_words
from infermesh_client.cli.doctor.doctor_command import doctor
from infermesh_client.cli.help_texts import ASK, MEASURE, MESH, MODELS, examples
from infermesh_client.cli.measure.measure_app import measure_app
from infermesh_client.cli.models.models_app import models_app
from infermesh_client.cli.options import AsJson, Endpoint
from infermesh_client.cli.speech.speech_commands import speak, transcribe
from infermesh_client.cli.tensors.tensor_commands import embed, infer
from infermesh_client.cli.watch.watch_app import watch_app

app = typer.Typer(
    name="infermesh",
    cls=ErrorReportingGroup,
    help="Serve language models on all your devices behind one address.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=examples("infermesh up", 'infermesh chat "Name three rivers."', "infermesh status", "infermesh down"),
)
app.add_typer(chat_app)
app.add_typer(watch_app)
app.add_typer(measure_app)
app.add_typer(models_app, name="models", rich_help_panel=MODELS)
app.add_typer(keys_app, name="keys", rich_help_panel=MODELS)
certs_app = typer.Typer(help="Make certificates.", no_args_is_help=True)
app.add_typer(certs_app, name="certs", rich_help_panel=MODELS)


def main() -> None:
    """Entry point of the command `infermesh`."""
    signal.signal(signal.SIGTERM, _interrupt)
    with whole_words():
        app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infermesh {version('infermesh-client')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Serve language models on all your devices behind one address."""


@app.command(
    rich_help_panel=MESH,
    epilog=examples(
        "infermesh up",
        "infermesh up --workers cpu,xpu",
        "INFERMESH_MODEL=qwen3 infermesh up --workers xpu:0,xpu:1 --routers 2",
        "INFERMESH_MODEL=none infermesh up    (loads a model when a request names it)",
    ),
)
def up(
    workers: Annotated[
        str,
        typer.Option(
            help="Workers to start, separated by commas: cpu, xpu, xpu:0,xpu:1 for one worker on each of two GPUs, "
            "xpu:0+1 for one whose models are split over both, or cpu:0,cpu:1 for one on each of two NUMA nodes, or "
            "halves of the processors."
        ),
    ] = "cpu",
    routers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="How many routers to start side by side, for more requests than one can carry.",
            show_default="1",
        ),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option(
            min=1, help="How long to wait for the mesh to become ready, in seconds, before stopping it again."
        ),
    ] = 180.0,
) -> None:
    """Start the mesh (workers, router and Envoy), ask it one question, and leave it running."""
    from infermesh_client.cli.up import run_up  # noqa: PLC0415 - each subcommand loads only what it needs

    run_up([part for raw in workers.split(",") if (part := raw.strip())], timeout_s, routers)


@app.command(rich_help_panel=MESH)
def down() -> None:
    """Stop the mesh on this machine and wait until its processes have ended."""
    from infermesh_client.cli.up import run_down  # noqa: PLC0415

    run_down()


@app.command(
    rich_help_panel=MESH,
    epilog=examples("infermesh status", "infermesh status --once", "infermesh status --json | jq .endpoints[].address"),
)
def status(
    once: Annotated[bool, typer.Option("--once", help="Print the tables once and exit.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Show each endpoint's device, state, models, load and speed, how requests were routed, and what is waiting.

    On a terminal the tables are updated until Ctrl-C.
    """
    from infermesh_client.cli.status import run_status  # noqa: PLC0415

    run_status(endpoint, once=once, as_json=as_json)


@app.command(
    rich_help_panel=MESH,
    epilog=examples("infermesh drain 127.0.0.1:50051", "infermesh drain 127.0.0.1:50051 --move-after 10"),
)
def drain(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT",
            help="Address of the endpoint (host:port), as `infermesh status` shows it.",
            autocompletion=completing.endpoints,
        ),
    ],
    move_after: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Move streams that still run after this many seconds to other endpoints; default: let them finish.",
        ),
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Take an endpoint out of service and wait until no request runs on it."""
    from infermesh_client.cli.drain import run_drain  # noqa: PLC0415

    run_drain(address, endpoint, move_after_s=move_after)


@app.command(rich_help_panel=MESH, epilog=examples("infermesh resume 127.0.0.1:50051"))
def resume(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT",
            help="Address of the endpoint (host:port), as `infermesh status` shows it.",
            autocompletion=completing.endpoints,
        ),
    ],
    endpoint: Endpoint = None,
) -> None:
    """Put a drained endpoint back into service."""
    from infermesh_client.cli.drain import run_resume  # noqa: PLC0415

    run_resume(address, endpoint)


@app.command(
    rich_help_panel=MESH,
    epilog=examples("infermesh health", "infermesh health --check || echo not ready"),
)
def health(
    check: Annotated[bool, typer.Option("--check", help="Exit with 0 if the endpoint is READY, else with 1.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Show the state, models and load of the mesh, or of one router or worker."""
    from infermesh_client.cli.status import run_health  # noqa: PLC0415

    run_health(endpoint, check=check, as_json=as_json)


app.command(
    rich_help_panel=ASK,
    epilog=examples("infermesh infer detector --input image=photo.jpg --output boxes=boxes.npy"),
)(infer)
app.command(
    rich_help_panel=ASK,
    epilog=examples('infermesh embed minilm "the sea in winter"', "infermesh embed minilm < lines.txt > vectors.jsonl"),
)(embed)
app.command(
    rich_help_panel=ASK,
    epilog=examples("infermesh transcribe talk.mp3", "infermesh transcribe talk.mp3 --format srt > talk.srt"),
)(transcribe)
app.command(
    rich_help_panel=ASK,
    epilog=examples('infermesh speak "The mesh can speak." --output spoken.wav'),
)(speak)
app.command(
    rich_help_panel=MEASURE,
    epilog=examples(
        "infermesh doctor", "infermesh doctor openai-agents", "infermesh doctor all --url http://host:8000/v1"
    ),
)(doctor)


@certs_app.callback()
def certs() -> None:
    """Make certificates."""


@certs_app.command("dev")
def dev_certs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files; made if it is missing.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Further host name or IP address for the certificate; may be repeated.")
    ] = None,
) -> None:
    """Make a CA and a certificate for development, and print the settings that use them."""
    from infermesh_client.cli.access.certs import run_dev_certs  # noqa: PLC0415

    run_dev_certs(folder, host or ())


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Makes SIGTERM clean up as Ctrl-C does."""
    raise Terminated


if __name__ == "__main__":
    main()
