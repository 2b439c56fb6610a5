"""Runs the installed model converters, which workers register as entry points.

A worker's package registers a function under `infermesh.model_converters`. It is called as
`convert(folder, *, weights, progress, environment)`, and calls `progress` with a stage's name and the fraction of it
that is done. `environment` is given for Hugging Face weights: an interpreter with their libraries, and a log file.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

from infermesh_client.converter_env.environment import LOG, ConverterEnvironment, find_environment, make_environment
from infermesh_client.model_import.apart import run_apart
from infermesh_client.model_import.precision import WeightPrecision
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers.provers import NOT_SUPPORTED, other_runners
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import ModelFormat

GROUP = "infermesh.model_converters"


class ReportProgress(Protocol):
    """Called by a converter with the stage it is in and the fraction of it that is done, in [0, 1]."""

    def __call__(self, stage: str, fraction: float, /) -> None: ...


class Converter(Protocol):
    """Writes a device's form of the model into a sub-folder of `folder`, and leaves the other files as they are."""

    def __call__(
        self,
        folder: Path,
        *,
        weights: WeightPrecision | None,
        progress: ReportProgress,
        environment: tuple[Path, Path] | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a model's conversions."""

    done: Sequence[EntryPoint]
    refused: Sequence[str]
    """Names of the converters that cannot take this model."""
    environment: ConverterEnvironment | None
    """The converter environment, for Hugging Face weights."""


def prepare(model_format: ModelFormat, home: Path, view: ProgressView) -> None:
    """Makes the converter environment if the model's format needs it and it is not there. Raises InfermeshError."""
    if model_format != "safetensors" or not entry_points(group=GROUP) or find_environment(home) is not None:
        return
    view.say("Converting Hugging Face weights needs an environment of its own (only the first time)")
    with view.fraction_step("Making the converter environment") as step:
        make_environment(home, step.set)


def convert_model(
    folder: Path, model_format: ModelFormat, weights: WeightPrecision | None, home: Path, view: ProgressView
) -> Conversion:
    """Runs every installed converter that has no sub-folder yet.

    A converter that cannot take this model is passed over where another kind of worker runs the model without it.
    Raises InfermeshError, and OSError for a failed read or write.
    """
    entries = [entry for entry in entry_points(group=GROUP) if not (folder / entry.name).is_dir()]
    environment = find_environment(home) if model_format == "safetensors" else None
    options = {"weights": weights, "environment": environment and (environment.python, environment.log)}
    done, refused = [], []
    for entry in entries:
        try:
            with view.fraction_step(f"Converting for {entry.name}") as step:
                run_apart(entry, folder, step, options, home / "log" / LOG)
            done.append(entry)
        except FailedPrecondition as error:
            others = other_runners(entry.name)
            if error.reason != NOT_SUPPORTED or not others:
                raise
            shutil.rmtree(folder / entry.name, ignore_errors=True)
            view.say(f"Not converted for {entry.name}: {error.message}")
            view.say(f"The model is imported for {', '.join(others)} alone")
            refused.append(entry.name)
    return Conversion(done, refused, environment)
