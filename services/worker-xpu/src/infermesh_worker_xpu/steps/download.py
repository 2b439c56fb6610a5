"""Copies a step's results to the host: packed together, one copy and one event to wait for."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from infermesh_worker_xpu.steps.upload import layout, tensor_at


class Download:
    """Copies tensors from a device. One thread uses it, and waits for each copy before it begins the next."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event = torch.Event(device) if device.type != "cpu" else None
        self._pinned: Tensor | None = None
        self._like: list[Tensor] = []

    def begin(self, tensors: Sequence[Tensor]) -> None:
        """Queues the copy. An earlier copy that nobody waited for is abandoned."""
        self._like = list(tensors)
        if self._event is None:
            return
        packed = tensors[0].view(torch.uint8) if len(tensors) == 1 else _packed(tensors)
        if self._pinned is None or packed.numel() > self._pinned.numel():
            self._pinned = torch.empty(2 * packed.numel(), dtype=torch.uint8, pin_memory=True)
        self._pinned[: packed.numel()].copy_(packed, non_blocking=True)
        self._event.record()

    def wait(self) -> list[NDArray[Any]]:
        """Waits for the copy; returns the tensors as arrays that the caller owns."""
        tensors, self._like = self._like, []
        if self._event is None or self._pinned is None:
            return [tensor.numpy() for tensor in tensors]
        self._event.synchronize()
        offsets, _ = layout([tensor.nbytes for tensor in tensors])
        return [
            tensor_at(self._pinned, offset, tensor.shape, tensor.dtype).numpy().copy()
            for tensor, offset in zip(tensors, offsets, strict=True)
        ]


def _packed(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors in one uint8 tensor, each at the offset that `layout` gives it."""
    parts = []
    for tensor, nbytes in ((tensor, tensor.nbytes) for tensor in tensors):
        parts.append(tensor.reshape(-1).view(torch.uint8))
        size = layout([nbytes])[1] if nbytes else 0
        parts.append(tensor.new_empty(size - nbytes, dtype=torch.uint8))
    return torch.cat(parts)
