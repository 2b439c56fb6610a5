"""Tries an imported model on torch, for the check at the end of an import."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infermesh_worker.models.trial import try_model
from infermesh_worker_xpu.build_model import build_model


def prove(folder: Path, *, tokens: int, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Runs the trial, without compiled layers; see try_model for what it returns and raises."""
    return try_model(build_model, folder, {"compile": "off", "graphs": "off"}, tokens=tokens, progress=progress)
