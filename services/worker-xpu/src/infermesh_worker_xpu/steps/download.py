"""Owns how a step's results reach the host: packed, one copy a step, one event to wait for. Knows no step."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from infermesh_worker_xpu.steps.upload import layout, tensor_at


class Download:
    """Carries tensors from a device; one thread uses it, and waits for each copy before it begins the next."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event = torch.Event(device) if device.type != "cpu" else None
        self._pinned: Tensor | None = None
        self._like: list[Tensor] = []

    def begin(self, tensors: Sequence[Tensor]) -> None:
        """Queues the copy. A copy that was begun before and not waited for is given up."""
        self._like = list(tensors)
        if self._event is None:
            return
        packed = tensors[0].view(torch.uint8) if len(tensors) == 1 else _packed(tensors)
        if self._pinned is None or packed.numel() > self._pinned.numel():
            self._pinned = torch.empty(2 * packed.numel(), dtype=torch.uint8, pin_memory=True)
        self._pinned[: packed.numel()].copy_(packed, non_blocking=True)
        self._event.record()

    def wait(self) -> list[NDArray[Any]]:
        """The tensors as arrays, which are the caller's."""
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
    """uint8, each tensor's bytes at its offset of `layout`."""
    parts = []
    for tensor, nbytes in ((tensor, tensor.nbytes) for tensor in tensors):
        parts.append(tensor.reshape(-1).view(torch.uint8))
        size = layout([nbytes])[1] if nbytes else 0
        parts.append(tensor.new_empty(size - nbytes, dtype=torch.uint8))
    return torch.cat(parts)
