"""Asks the installed workers, one after the other, whether they can serve a model, and what they find in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from infermesh_client.converter_env.environment import LOG
from infermesh_client.model_import.apart import run_apart
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import FailedPrecondition, InfermeshError


@dataclass(frozen=True, slots=True)
class Served:
    """What the first worker that can serve a model found."""

    found: Mapping[str, Any]
    refused: tuple[str, ...]
    """Names of the workers' functions that cannot take the model."""


def ask_workers(
    group: str, folder: Path, options: Mapping[str, object], home: Path, view: ProgressView, *, missing: str
) -> Served:
    """Calls the functions of an entry point group, each in a process of its own, until one can serve the model.

    Raises the error of the first one if none can, and FailedPrecondition with `missing` if there are none.
    """
    errors: dict[str, InfermeshError] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            with view.fraction_step(f"Trying it on {entry.name}") as step:
                found = run_apart(entry, folder, step, options, home / "log" / LOG)
        except InfermeshError as error:
            errors[entry.name] = error
        else:
            return Served(found, tuple(errors))
    if errors:
        raise next(iter(errors.values()))
    raise FailedPrecondition(missing, reason="CONVERTER_NOT_INSTALLED")
