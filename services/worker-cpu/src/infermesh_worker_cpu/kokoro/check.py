"""Tries a model that speaks before an import copies it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from infermesh_worker.speaking.trial import try_folder

from .speaker import load_speaker


def check(folder: Path, *, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """What a model's manifest says of it, see `try_folder`. Raises InfermeshError for one that cannot be served."""
    load = partial(load_speaker, threads=0, weights_bytes=0, folder=None)
    return try_folder(folder, load, progress=progress)
