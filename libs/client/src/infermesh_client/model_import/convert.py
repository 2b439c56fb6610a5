"""Owns running the device conversions that are installed. Knows none of them: they are entry points.

A worker's package registers under `infermesh.model_converters` a function called as
`convert(folder, *, weights, progress)`, where `progress` is told a stage's name and its fraction done in [0, 1].
"""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol

from infermesh_client.model_import.progress import ProgressView, Step
from infermesh_runtime.errors import FailedPrecondition, InfermeshError

GROUP = "infermesh.model_converters"
Weights = Literal["int8", "int4"]


class Progress(Protocol):
    """What a converter tells about itself."""

    def __call__(self, stage: str, fraction: float, /) -> None: ...


class Converter(Protocol):
    """Writes a device's own form of the model into its folder, beside the files that are there."""

    def __call__(self, folder: Path, *, weights: Weights | None, progress: Progress) -> None: ...


def convert_model(folder: Path, weights: Weights | None, view: ProgressView) -> list[str]:
    """Runs every installed converter whose folder is not there yet; returns their names. Raises InfermeshError."""
    entries = [entry for entry in entry_points(group=GROUP) if not (folder / entry.name).is_dir()]
    for entry in entries:
        with view.fraction_step(f"Converting for {entry.name}") as step:
            try:
                converter: Converter = entry.load()
                converter(folder, weights=weights, progress=_reporting_to(step))
            except (InfermeshError, OSError):
                raise
            except Exception as error:  # a boundary: converters are others' code
                raise FailedPrecondition(f"the conversion for {entry.name} failed: {error}") from error
    return [entry.name for entry in entries]


def _reporting_to(step: Step) -> Progress:
    def report(_stage: str, fraction: float, /) -> None:
        step.set(fraction)

    return report
