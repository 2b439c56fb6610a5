"""Runs the installed model converters, which workers register as entry points.

A worker's package registers a function under `infermesh.model_converters`. It is called as
`convert(folder, *, weights, progress)`, and calls `progress` with a stage's name and the fraction of it that is done.
"""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from infermesh_client.model_import.apart import run_apart
from infermesh_client.model_import.precision import WeightPrecision
from infermesh_client.model_import.progress import ProgressView

GROUP = "infermesh.model_converters"


class ReportProgress(Protocol):
    """Called by a converter with the stage it is in and the fraction of it that is done, in [0, 1]."""

    def __call__(self, stage: str, fraction: float, /) -> None: ...


class Converter(Protocol):
    """Writes a device's form of the model into a sub-folder of `folder`, and leaves the other files as they are."""

    def __call__(self, folder: Path, *, weights: WeightPrecision | None, progress: ReportProgress) -> None: ...


def convert_model(folder: Path, weights: WeightPrecision | None, view: ProgressView) -> list[str]:
    """Runs every installed converter that has no sub-folder yet, and returns their names.

    Raises InfermeshError, and OSError for a failed read or write.
    """
    entries = [entry for entry in entry_points(group=GROUP) if not (folder / entry.name).is_dir()]
    for entry in entries:
        with view.fraction_step(f"Converting for {entry.name}") as step:
            run_apart(entry, folder, weights, step)
    return [entry.name for entry in entries]
