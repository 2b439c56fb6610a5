"""Asks the installed workers, before anything is copied, whether they can run a model.

A worker's package registers a function under `infermesh.model_checks`, under the name of its runner. It is called as
`check(path, model_format)` with the user's GGUF file (the first shard of a split one) or folder, and returns lines for
the account: what it makes of each key and tensor. For what it cannot run, it raises an InfermeshError that says why.
If its reason is MODEL_NOT_SUPPORTED, the model may still be imported for another kind of worker.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from infermesh_client.model_import.workers.provers import NOT_SUPPORTED, runner_names
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.manifest.model_manifest import ModelFormat

GROUP = "infermesh.model_checks"


class Check(Protocol):
    """Reads what it must of a model's files, and changes nothing."""

    def __call__(self, path: Path, model_format: ModelFormat, /) -> Sequence[str]: ...


def check_with_workers(path: Path, model_format: ModelFormat) -> Sequence[str]:
    """The lines of every installed check; of those that say the same, the first one's.

    Raises an InfermeshError for a wrong file, and where every runner is known to refuse the model.
    """
    said: dict[str, str] = {}
    refused: dict[str, InfermeshError] = {}
    for entry in entry_points(group=GROUP):
        check: Check = entry.load()
        try:
            said |= {line: entry.name for line in check(path, model_format) if line not in said}
        except InfermeshError as error:
            if error.reason != NOT_SUPPORTED:
                raise
            refused[entry.name] = error
            said[f"cannot run it: {error.message}"] = entry.name
    if refused and not set(runner_names()) - set(refused):
        raise next(iter(refused.values()))
    return [f"{name}: {line}" for line, name in said.items()]
