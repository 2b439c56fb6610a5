"""Runs `infermesh embed`: prints the vectors of texts, one line of JSON for each."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.output.waiting import waiting_line


def run_embed(
    model: str, texts: Sequence[str], *, kind: str, dimensions: int | None, device: str, endpoint: str | None
) -> None:
    """Prints the vectors. Without texts, the lines of stdin are embedded. Raises InfermeshError."""
    if not texts and sys.stdin.isatty():
        error_console().say("Enter texts, one a line; Ctrl-D ends them.", "dim")
    given = list(texts) or [line for line in sys.stdin.read().splitlines() if line]
    options: dict[str, Any] = {"device": device}
    if kind:
        options["kind"] = kind
    if dimensions is not None:
        options["dimensions"] = dimensions
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client:
        with waiting_line(error_console(), f"Waiting for {model}"):
            vectors = client.embed(given, model=model, **options)
        for vector in vectors:
            print(json.dumps(vector.tolist()))
