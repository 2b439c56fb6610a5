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
from infermesh_client.cli.measure.measure_app import measure_app
from infermesh_client.cli.models.models_app import models_app
from infermesh_client.cli.options import AsJson, Endpoint
from infermesh_client.cli.speech_commands import speak, transcribe
from infermesh_client.cli.watch.watch_app import watch_app

app = typer.Typer(
    name="infermesh",
    cls=ErrorReportingGroup,
    help="Serve language models on all your devices behind one address.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(chat_app)
app.add_typer(watch_app)
app.add_typer(measure_app)
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
certs_app = typer.Typer(help="Make certificates.", no_args_is_help=True)
app.add_typer(certs_app, name="certs")


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
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Serve language models on all your devices behind one address."""


@app.command()
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


@app.command()
def down() -> None:
    """Stop the mesh on this machine and wait until its processes have ended."""
    from infermesh_client.cli.up import run_down  # noqa: PLC0415

    run_down()


@app.command()
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


@app.command()
def drain(
    address: Annotated[
        str,
        typer.Argument(metavar="ENDPOINT", help="Address of the endpoint (host:port), as `infermesh status` shows it."),
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


@app.command()
def resume(
    address: Annotated[
        str,
        typer.Argument(metavar="ENDPOINT", help="Address of the endpoint (host:port), as `infermesh status` shows it."),
    ],
    endpoint: Endpoint = None,
) -> None:
    """Put a drained endpoint back into service."""
    from infermesh_client.cli.drain import run_resume  # noqa: PLC0415

    run_resume(address, endpoint)


@app.command()
def health(
    check: Annotated[bool, typer.Option("--check", help="Exit with 0 if the endpoint is READY, else with 1.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Show the state, models and load of the mesh, or of one router or worker."""
    from infermesh_client.cli.status import run_health  # noqa: PLC0415

    run_health(endpoint, check=check, as_json=as_json)


@app.command()
def doctor(  # noqa: PLR0917 - typer passes them by name
    client: Annotated[
        str, typer.Argument(help="Client whose requests to replay, or all. Without it, the clients are listed.")
    ] = "",
    url: Annotated[
        str,
        typer.Option(help="Base URL of another server with OpenAI's API, as https://host/v1; default: this mesh."),
    ] = "",
    model: Annotated[str, typer.Option(help="Name of the model to ask; default: a loaded one.")] = "",
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the API key for the server. INFERMESH_API_KEY is sent to this mesh only."),
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="How long one answer may take, in seconds.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Replay what a client sends, and show which fields work, are ignored, or are refused.

    Each request asks for a few tokens. Exits with 1 if something is refused that the client sends by default, and with
    2 if there is no connection.
    """
    from infermesh_client.cli.doctor.doctor import DoctorOptions, run_doctor  # noqa: PLC0415

    options = DoctorOptions(url=url, model=model, api_key_file=api_key_file, timeout_s=timeout_s, as_json=as_json)
    run_doctor(client, options)


@app.command()
def infer(  # noqa: PLR0917 - typer passes them by name
    model: Annotated[str, typer.Argument(help="Name of the model; it turns tensors into tensors.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=FILE",
            help="An input: a .npy file, an image, a .json file, or - for JSON on stdin; one for each input.",
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output", metavar="NAME=FILE", help="Save this output as a .npy file; the others are printed as JSON."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where to run: auto, gpu, cpu, xpu, cuda, or an endpoint's address; default: auto.")
    ] = "",
    image_mean: Annotated[
        str,
        typer.Option(
            metavar="NUMBERS",
            help="Subtracted from an image's pixels, in [0, 1], where the model takes floating-point numbers: one "
            "number, or one for each channel.",
        ),
    ] = "0",
    image_std: Annotated[
        str, typer.Option(metavar="NUMBERS", help="What the pixels are then divided by; 0.00392157 gives [0, 255].")
    ] = "1",
    endpoint: Endpoint = None,
) -> None:
    """Run a model on tensors from files, and print or save what it gives."""
    from infermesh_client.cli.tensors.images import Normalization  # noqa: PLC0415
    from infermesh_client.cli.tensors.infer import numbers, run_infer  # noqa: PLC0415

    normalization = Normalization(numbers(image_mean, "--image-mean"), numbers(image_std, "--image-std"))
    run_infer(model, inputs or (), outputs or (), normalization=normalization, device=device, endpoint=endpoint)


@app.command()
def embed(  # noqa: PLR0917 - typer passes them by name
    model: Annotated[str, typer.Argument(help="Name of the model; it turns texts into vectors.")],
    texts: Annotated[list[str] | None, typer.Argument(help="The texts; default: the lines of stdin.")] = None,
    kind: Annotated[
        str, typer.Option(help="What the texts are in a search: query or document; chooses the model's own prompt.")
    ] = "",
    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep so many numbers of each vector.")] = None,
    device: Annotated[
        str, typer.Option(help="Where to run: auto, gpu, cpu, xpu, cuda, or an endpoint's address; default: auto.")
    ] = "",
    endpoint: Endpoint = None,
) -> None:
    """Turn texts into vectors: one line of JSON for each text."""
    from infermesh_client.cli.tensors.embed import run_embed  # noqa: PLC0415

    run_embed(model, texts or (), kind=kind, dimensions=dimensions, device=device, endpoint=endpoint)


app.command()(transcribe)
app.command()(speak)


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
