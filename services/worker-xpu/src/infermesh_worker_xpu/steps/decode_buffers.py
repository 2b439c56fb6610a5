"""Fixed buffers that captured graphs read: a decode step, padded to a fixed number of rows.

All sizes share the memory of one buffer, each with its own layout. This is safe because steps run one after the other
on one stream.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch
from infermesh_worker_xpu.steps.device_step import DecodePart, DeviceStep, rotary_positions
from infermesh_worker_xpu.steps.upload import Staging, layout, tensor_at


@dataclass(frozen=True, slots=True)
class _Views:
    """The arrays of one size in one pinned buffer."""

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    slots: NDArray[np.int64]
    context_lens: NDArray[np.int32]
    block_tables: NDArray[np.int32]


class DecodeBuffers:
    """Inputs of up to `max_rows` decodes with block tables of `max_blocks`; filled on the host, read on the device.

    Padding rows write to `padding_block`, which no sequence uses, and read one token of it.
    """

    def __init__(
        self, *, max_rows: int, max_blocks: int, padding_block: int, block_size: int, device: torch.device
    ) -> None:
        self._max_blocks = max_blocks
        self._padding_block = padding_block
        self._block_size = block_size
        size_bytes = self._layout(max_rows)[1]
        self._staging = Staging(size_bytes, device)
        self._device_bytes = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
        self._rows = torch.arange(max_rows, device=device)
        self._made: dict[tuple[int, int], _Views] = {}
        self._columns = np.arange(max_blocks)

    def size_of(self, batch: Batch) -> int | None:
        """The batch's number of decodes; None if it has other runs, or decodes whose logits nobody needs."""
        count = len(batch.token_ids)
        return count if count == len(batch.past_lens) == len(batch.rows) else None

    def step(self, size: int) -> DeviceStep:
        """The step that the device reads in `size` rows: new views of the same memory at each call."""
        offsets, _ = self._layout(size)
        ids, positions, slots = (
            tensor_at(self._device_bytes, offset, shape, torch.int64)
            for offset, shape in zip(offsets[:3], [(1, size), (1, size), (size,)], strict=True)
        )
        contexts = tensor_at(self._device_bytes, offsets[3], (size,), torch.int32)
        tables = tensor_at(self._device_bytes, offsets[4], (size, self._max_blocks), torch.int32)
        return DeviceStep(
            token_ids=ids,
            positions=positions,
            slots=slots,
            rows=self._rows[:size],
            decode=DecodePart(size, tables, contexts),
            prefill=None,
        )

    def fill(self, batch: Batch | None, size: int) -> None:
        """Queues the copy of a batch of at most `size` decodes to the device; None copies padding only."""
        index = self._staging.next()
        views = self._views(index, size)
        count = 0 if batch is None else len(batch.token_ids)
        if batch is not None:
            self._fill_rows(views, batch, count)
        views.token_ids[count:] = 0
        views.positions[count:] = 0
        views.slots[count:] = self._padding_block * self._block_size
        views.context_lens[count:] = 1
        views.block_tables[count:, 0] = self._padding_block
        self._staging.send(index, self._device_bytes[: self._layout(size)[1]])

    def _fill_rows(self, views: _Views, batch: Batch, count: int) -> None:
        views.token_ids[:count] = batch.token_ids
        views.positions[:count] = rotary_positions(batch)[0]
        last = batch.blocks[batch.block_begins[1:] - 1].astype(np.int64)  # a table ends with the new token's block
        views.slots[:count] = last * self._block_size + batch.positions % self._block_size
        views.context_lens[:count] = batch.past_lens + 1
        counts = np.diff(batch.block_begins)
        width = int(counts.max())
        # entries beyond a context keep their old values: nothing reads them
        views.block_tables[:count, :width][self._columns[:width] < counts[:, None]] = batch.blocks

    def _views(self, index: int, size: int) -> _Views:
        if (index, size) not in self._made:
            buffer = torch.from_numpy(self._staging.array(index))
            offsets, _ = self._layout(size)
            ids, positions, slots = (tensor_at(buffer, offset, (size,), torch.int64).numpy() for offset in offsets[:3])
            contexts = tensor_at(buffer, offsets[3], (size,), torch.int32).numpy()
            tables = tensor_at(buffer, offsets[4], (size, self._max_blocks), torch.int32).numpy()
            self._made[index, size] = _Views(ids, positions, slots, contexts, tables)
        return self._made[index, size]

    def _layout(self, size: int) -> tuple[list[int], int]:
        """Layout of token ids, positions, slots (8 bytes each), context lengths and block tables (4 bytes each)."""
        return layout([8 * size, 8 * size, 8 * size, 4 * size, 4 * size * self._max_blocks])
