"""Names the kinds of runners that are installed, and lets one run a few prompts on an imported model.

A worker's package registers a function under `infermesh.model_provers`, under the name of its runner: that of the
converter whose files it runs, or one without a converter, such as torch, which runs the model's own files. It is called
as `prove(folder, *, tokens, progress)` and returns a Trial.
"""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "infermesh.model_provers"
NOT_SUPPORTED = "MODEL_NOT_SUPPORTED"
"""Reason of the error by which a converter or a check says that its kind of worker cannot run a model."""
_CONVERTERS = "infermesh.model_converters"


def runner_names() -> Sequence[str]:
    """The installed runners."""
    return [entry.name for entry in entry_points(group=GROUP)]


def other_runners(converter: str) -> Sequence[str]:
    """The installed runners that need no converter, without the one that runs what `converter` writes."""
    converted = {entry.name for entry in entry_points(group=_CONVERTERS)} | {converter}
    return [entry.name for entry in entry_points(group=GROUP) if entry.name not in converted]


def choose_prover(folder: Path) -> EntryPoint | None:
    """The runner that tries an imported model: one whose converted files are there, else one that needs none."""
    entries = list(entry_points(group=GROUP))
    converted = [entry for entry in entries if (folder / entry.name).is_dir()]
    needs_none = [entry for entry in entries if entry.name in other_runners("")]
    return next(iter([*converted, *needs_none]), None)
