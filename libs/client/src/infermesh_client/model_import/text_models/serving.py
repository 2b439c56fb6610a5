"""Asks the installed workers whether they can serve a model that turns texts into vectors or scores.

A worker's package registers a function under `infermesh.text_models`. It is called, in a process of its own, as
`check(folder, *, kind, context_length, progress)` with the folder to import, loads the model there, runs it once, and
returns {"context_length", "dimensions"}: how many tokens it can read, and the length of its vectors, 0 if it scores.
For what it cannot serve, it raises an InfermeshError that says why.
"""

from pathlib import Path

import msgspec

from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers.asking import ask_workers
from infermesh_runtime.manifest.model_kind import ModelKind

GROUP = "infermesh.text_models"


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found."""

    context_length: int
    dimensions: int
    refused: tuple[str, ...] = ()
    """Names of the workers' functions that cannot take the model."""


def find_worker(folder: Path, kind: ModelKind, context_length: int, home: Path, view: ProgressView) -> Served:
    """What the first worker that can serve the model says of it. Raises the error of the first one if none can."""
    served = ask_workers(
        GROUP,
        folder,
        {"kind": kind, "context_length": context_length},
        home,
        view,
        missing="no worker is installed that turns texts into vectors or scores; infermesh-worker-cpu does",
    )
    return msgspec.convert({**served.found, "refused": served.refused}, Served)
