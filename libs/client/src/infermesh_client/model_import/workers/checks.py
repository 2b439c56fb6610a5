"""Asks the installed workers, before anything is copied, whether they can run a model.

A worker's package registers a function under `infermesh.model_checks`, under the name of its converter. It is called as
`check(path, model_format)` with the user's GGUF file (the first shard of a split one) or folder, and returns lines for
the account: what it makes of each key and tensor. For what it cannot run, it raises an InfermeshError that says why.
If its reason is MODEL_NOT_SUPPORTED, the model may still be imported for another kind of worker.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from infermesh_client.model_import.workers.provers import NOT_SUPPORTED, other_runners
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.model_manifest import ModelFormat

GROUP = "infermesh.model_checks"


class Check(Protocol):
    """Reads what it must of a model's files, and changes nothing."""

    def __call__(self, path: Path, model_format: ModelFormat, /) -> Sequence[str]: ...


def check_with_workers(path: Path, model_format: ModelFormat) -> Sequence[str]:
    """The lines of every installed check. Raises an InfermeshError where one refuses and no other runner is there."""
    lines: list[str] = []
    for entry in entry_points(group=GROUP):
        check: Check = entry.load()
        try:
            lines += [f"{entry.name}: {line}" for line in check(path, model_format)]
        except InfermeshError as error:
            if error.reason != NOT_SUPPORTED or not other_runners(entry.name):
                raise
            lines.append(f"{entry.name}: cannot run it: {error.message}")
    return lines
