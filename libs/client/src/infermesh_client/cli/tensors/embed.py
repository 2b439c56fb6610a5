"""Runs `infermesh embed`: prints the vectors of texts, one line of JSON for each."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from infermesh_client.cli.boundary import load_settings
from infermesh_client.cli.connection import connect


def run_embed(
    model: str, texts: Sequence[str], *, kind: str, dimensions: int | None, device: str, endpoint: str | None
) -> None:
    """Prints the vectors. Without texts, the lines of stdin are embedded. Raises InfermeshError."""
    given = list(texts) or [line for line in sys.stdin.read().splitlines() if line]
    options: dict[str, Any] = {"device": device}
    if kind:
        options["kind"] = kind
    if dimensions is not None:
        options["dimensions"] = dimensions
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client:
        for vector in client.embed(given, model=model, **options):
            print(json.dumps(vector.tolist()))
