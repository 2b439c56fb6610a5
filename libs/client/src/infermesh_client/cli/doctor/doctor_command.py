"""Defines the command line of `infermesh doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from infermesh_client.cli.completion import completing
from infermesh_client.cli.options import AsJson


def doctor(  # noqa: PLR0917 - typer passes them by name
    client: Annotated[
        str, typer.Argument(help="Client whose requests to replay, or all. Without it, the clients are listed.")
    ] = "",
    url: Annotated[
        str,
        typer.Option(help="Base URL of another server with OpenAI's API, as https://host/v1; default: this mesh."),
    ] = "",
    model: Annotated[
        str, typer.Option(help="Name of the model to ask; default: a loaded one.", autocompletion=completing.models)
    ] = "",
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
