"""Tries an imported model on OpenVINO, for the check at the end of an import."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infermesh_worker.models.trial import try_model

from .build_model import build_model
from .signal_stack import kept_signal_stack


def prove(folder: Path, *, tokens: int, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Runs the trial; see try_model for what it returns and raises."""
    with kept_signal_stack():
        return try_model(build_model, folder, {}, tokens=tokens, progress=progress)
