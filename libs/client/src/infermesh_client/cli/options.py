"""Options that several subcommands have."""

from typing import Annotated

import typer

Endpoint = Annotated[
    str | None,
    typer.Option(
        help="Router or worker to talk to, as host:port, or grpcs://host:port for TLS; default: the mesh on this "
        "machine."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
