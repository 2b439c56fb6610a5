"""Options that several subcommands have."""

from typing import Annotated

import typer

from infermesh_client.cli.completion import completing

Endpoint = Annotated[
    str | None,
    typer.Option(
        help="Router or worker to talk to, as host:port, or grpcs://host:port for TLS; default: the mesh on this "
        "machine."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where to answer: auto, gpu, cpu, xpu, cuda, or an endpoint's address or name; default: auto.",
        autocompletion=completing.devices,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
