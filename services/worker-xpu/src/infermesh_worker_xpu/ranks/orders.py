"""What rank 0 tells the other ranks, and what they tell it when they fail; pickled, between processes of one worker."""

from dataclasses import dataclass
from pathlib import Path

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import Batch
from infermesh_worker.device.machine_part import MachinePart
from infermesh_worker_xpu.options import TorchOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a rank needs to join the others and to load its part of the model."""

    rank: int
    size: int
    kind: DeviceKind
    store: Path
    """An empty file, through which the ranks find each other; `/proc/self/fd/N` of a descriptor that all have."""
    folder: Path
    options: TorchOptions
    """Of this rank: its device, and its share of the threads."""
    part: MachinePart | None
    """The part of the machine that the rank is bound to; None: it is not bound."""
    log_level: str


@dataclass(frozen=True, slots=True)
class Run:
    """Compute a batch, whose logits rank 0 reads."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Release:
    """Give back the memory of KV blocks."""

    blocks: range


@dataclass(frozen=True, slots=True)
class Failed:
    """A rank ends because of an error. `kind`: name of its class, "" if it is one of ours, with `code` and `reason`.

    `own`: it is a refusal of the rank's own, so it does not follow from another rank's end.
    """

    kind: str
    message: str
    code: int = 0
    reason: str = ""
    own: bool = False


Order = Run | Release
