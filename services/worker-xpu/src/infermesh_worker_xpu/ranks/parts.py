"""Names the devices that share a model, and chooses the parts of the machine that ranks on processors are bound to."""

from collections.abc import Sequence

import torch

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.device.machine_part import MachinePart, find_part
from infermesh_worker_xpu.device import TorchDevice


def find_parts(kind: DeviceKind, indices: Sequence[int]) -> list[MachinePart | None]:
    """The part of the machine of each rank; None for accelerators. Call it before this process is bound to one.

    Raises FailedPrecondition if there are too few processors.
    """
    if kind != "cpu" or len(indices) == 1:
        return [None] * len(indices)
    try:
        return [find_part(f"{index}/{max(indices) + 1}") for index in indices]
    except ValueError as error:
        raise FailedPrecondition(
            f"This machine cannot be split for the ranks cpu:{'+'.join(map(str, indices))}: {error}",
            reason="DEVICE_NOT_AVAILABLE",
        ) from error


def name_devices(kind: DeviceKind, indices: Sequence[int], parts: Sequence[MachinePart | None]) -> str:
    """The vendor's names of all devices, and for processors which they are."""
    if kind == "cpu":
        words = " + ".join(part.words for part in parts if part is not None)
        name = TorchDevice(torch.device("cpu")).name
        return f"{name} ({words})" if words else name
    names = [TorchDevice(torch.device(kind, index)).name for index in indices]
    if len(names) > 1 and len(set(names)) == 1:
        return f"{len(names)} × {names[0]}"
    return " + ".join(names)
