"""Names the kinds of runners that are installed, and lets one run a few prompts on an imported model.

A worker's package registers a function under `infermesh.model_provers`, under the name of its runner: that of the
converter whose files it runs, or one without a converter, such as torch, which runs the model's own files. It is called
as `prove(folder, *, tokens, progress)` and returns a Trial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "infermesh.model_provers"
NOT_SUPPORTED = "MODEL_NOT_SUPPORTED"
"""Reason of the error by which a converter or a check says that its kind of worker cannot run a model."""
_PACKAGES = "infermesh-worker-"
_CONVERTERS = "infermesh.model_converters"


def runner_names() -> Sequence[str]:
    """The installed runners."""
    return [entry.name for entry in entry_points(group=GROUP)]


def other_runners(converter: str) -> Sequence[str]:
    """The installed runners that need no converter, without the one that runs what `converter` writes."""
    converted = {entry.name for entry in entry_points(group=_CONVERTERS)} | {converter}
    return [entry.name for entry in entry_points(group=GROUP) if entry.name not in converted]


@dataclass(frozen=True, slots=True)
class Prover:
    """An installed runner, and whether it can try a model."""

    entry: EntryPoint
    cannot: str = ""
    """Why it cannot be tried; "" if it can."""

    @property
    def worker(self) -> str:
        """The kind of worker whose package has the runner: cpu, xpu; the runner's name for another package."""
        package = self.entry.dist.name.replace("_", "-") if self.entry.dist is not None else ""
        return package.removeprefix(_PACKAGES) if package.startswith(_PACKAGES) else self.entry.name


def list_provers(folder: Path) -> Sequence[Prover]:
    """The installed runners: those whose converted files the model has, then those that need none, then the others."""
    entries = list(entry_points(group=GROUP))
    needs_none = other_runners("")
    converted = [entry for entry in entries if (folder / entry.name).is_dir()]
    plain = [entry for entry in entries if entry.name in needs_none and entry not in converted]
    others = [entry for entry in entries if entry not in (*converted, *plain)]
    return [
        *map(Prover, [*converted, *plain]),
        *(Prover(entry, "the model could not be converted for it") for entry in others),
    ]
