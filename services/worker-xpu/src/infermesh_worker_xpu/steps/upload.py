"""Copies a step's arrays to the device: packed into pinned memory, one copy per step.

The device reads pinned memory after the call that asked for the copy has returned. So two buffers take turns, and a
buffer is written again only after the device has read it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT_BYTES = 16
"""Alignment of each array in the buffer: Triton compiles its kernels for pointers that are multiples of 16."""


class Staging:
    """Host buffers of one size that take turns; pinned, or ordinary memory if the device is the CPU."""

    def __init__(self, size_bytes: int, device: torch.device, *, buffers: int = 2) -> None:
        pinned = device.type != "cpu"
        self.size_bytes = size_bytes
        self._buffers = [torch.zeros(size_bytes, dtype=torch.uint8, pin_memory=pinned) for _ in range(buffers)]
        self._read = [torch.Event(device) if pinned else None for _ in range(buffers)]
        self._turn = 0

    def next(self) -> int:
        """Index of the buffer to write next. Waits until the device has read its previous content."""
        self._turn = (self._turn + 1) % len(self._buffers)
        read = self._read[self._turn]
        if read is not None:
            read.synchronize()
        return self._turn

    def array(self, index: int) -> NDArray[np.uint8]:
        """The bytes of a buffer, for the caller to write."""
        array: NDArray[np.uint8] = self._buffers[index].numpy()
        return array

    def send(self, index: int, target: Tensor) -> None:
        """Queues the copy of a buffer's first bytes to `target`, a uint8 tensor on the device."""
        target.copy_(self._buffers[index][: target.numel()], non_blocking=True)
        read = self._read[index]
        if read is not None:
            read.record()


class Upload:
    """Copies the arrays of a step to a device. One thread uses it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staging: Staging | None = None

    def send(self, arrays: Sequence[NDArray[Any]]) -> list[Tensor]:
        """Tensors on the device with the arrays' shapes, dtypes and values. The arrays may be reused at once."""
        if self._device.type == "cpu":
            return [torch.from_numpy(array.copy()) for array in arrays]
        offsets, size_bytes = layout([array.nbytes for array in arrays])
        if self._staging is None or size_bytes > self._staging.size_bytes:
            self._staging = Staging(2 * size_bytes, self._device)
        index = self._staging.next()
        host = self._staging.array(index)
        for array, offset in zip(arrays, offsets, strict=True):
            host[offset : offset + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
        target = torch.empty(size_bytes, dtype=torch.uint8, device=self._device)
        self._staging.send(index, target)
        return [
            tensor_at(target, offset, array.shape, torch.from_numpy(array[:0]).dtype)
            for array, offset in zip(arrays, offsets, strict=True)
        ]


def layout(sizes_bytes: Sequence[int]) -> tuple[list[int], int]:
    """Aligned offset of each array in one buffer, and the buffer's size."""
    rounded = [-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for size in sizes_bytes]
    ends = np.cumsum([0, *rounded]).tolist()
    return ends[:-1], max(ALIGNMENT_BYTES, ends[-1])


def tensor_at(buffer: Tensor, offset: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A view of part of a uint8 buffer, as a tensor of that shape and dtype."""
    count = int(np.prod(shape, dtype=np.int64))
    return buffer[offset : offset + count * dtype.itemsize].view(dtype).view(tuple(shape))
