"""Fixed buffers that captured graphs read: a step of any runs, padded to a fixed number of tokens.

As in decode_buffers, all sizes share the memory of one buffer, each with its own layout.
"""

from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infermesh_engine.runners.runner import Batch
from infermesh_worker_xpu.steps.device_step import (
    DecodePart,
    DeviceStep,
    PrefillPart,
    leading_decodes,
    rotary_positions,
    token_slots,
)
from infermesh_worker_xpu.steps.upload import Staging, layout, tensor_at

A = TypeVar("A", Tensor, NDArray[Any])


@dataclass(frozen=True, slots=True)
class _Arrays(Generic[A]):
    """The arrays of one size, on the host or on the device."""

    token_ids: A
    positions: A
    slots: A
    rows: A
    begins: A
    decode_contexts: A
    contexts: A
    block_tables: A


class MixedBuffers:
    """Inputs of up to `max_tokens` tokens of up to `max_sequences` runs, of which the first may be decodes.

    Shapes say nothing about how many of the runs are decodes: both parts of a step have a row for every sequence. Rows
    that are no decodes have a context of 0 in the decode part, and decodes are runs of 0 tokens in the prefill part.
    Padding tokens belong to no run and write to `padding_block`, which no sequence uses.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        max_sequences: int,
        max_blocks: int,
        padding_block: int,
        block_size: int,
        device: torch.device,
    ) -> None:
        self._max_sequences = max_sequences
        self._max_blocks = max_blocks
        self._padding_slot = padding_block * block_size
        self._block_size = block_size
        size_bytes = self._layout(max_tokens)[1]
        self._staging = Staging(size_bytes, device)
        self._device_bytes = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
        self._made: dict[tuple[int, int], _Arrays[NDArray[Any]]] = {}

    def size_of(self, batch: Batch) -> int | None:
        """The batch's number of tokens; None if it has more sequences or rows than the buffers hold."""
        tokens = len(batch.token_ids)
        if len(batch.past_lens) > self._max_sequences or len(batch.rows) > self._row_count(tokens):
            return None
        return tokens

    def step(self, size: int) -> DeviceStep:
        """The step that the device reads in `size` tokens: new views of the same memory at each call."""
        arrays = self._arrays(self._device_bytes, size)
        decodes = self._row_count(size)
        return DeviceStep(
            token_ids=arrays.token_ids[None],
            positions=arrays.positions[None],
            slots=arrays.slots,
            rows=arrays.rows,
            decode=DecodePart(decodes, arrays.block_tables[:decodes], arrays.decode_contexts[:decodes]),
            prefill=PrefillPart(arrays.block_tables, arrays.begins, arrays.contexts, size, first_token=0),
            padded=True,
        )

    def fill(self, batch: Batch | None, size: int) -> None:
        """Queues the copy of a batch of at most `size` tokens to the device; None copies padding only."""
        index = self._staging.next()
        arrays = self._host_arrays(index, size)
        tokens = sequences = decodes = rows = 0
        if batch is not None:
            tokens, sequences, rows = len(batch.token_ids), len(batch.past_lens), len(batch.rows)
            decodes = leading_decodes(batch)
            self._fill_runs(arrays, batch, decodes)
        arrays.token_ids[tokens:] = 0
        arrays.positions[tokens:] = 0
        arrays.slots[tokens:] = self._padding_slot
        arrays.rows[rows:] = 0
        arrays.begins[sequences:] = tokens
        arrays.decode_contexts[decodes:] = 0
        arrays.contexts[sequences:] = 0
        self._staging.send(index, self._device_bytes[: self._layout(size)[1]])

    def _fill_runs(self, arrays: _Arrays[NDArray[Any]], batch: Batch, decodes: int) -> None:
        tokens, sequences = len(batch.token_ids), len(batch.past_lens)
        arrays.token_ids[:tokens] = batch.token_ids
        arrays.positions[:tokens] = rotary_positions(batch)[0]
        arrays.rows[: len(batch.rows)] = batch.rows
        arrays.begins[:sequences] = np.maximum(batch.begins[:sequences], decodes)
        contexts = batch.past_lens + np.diff(batch.begins)
        arrays.decode_contexts[:decodes] = contexts[:decodes]
        arrays.contexts[:sequences] = contexts
        counts = np.diff(batch.block_begins)
        width = int(counts.max())
        tables = arrays.block_tables[:sequences, :width]
        # entries beyond a context keep their old values: nothing reads them
        tables[np.arange(width) < counts[:, None]] = batch.blocks
        arrays.slots[:tokens] = token_slots(batch, tables, self._block_size)

    def _row_count(self, size: int) -> int:
        """Rows of logits, and rows of the decode part, in a step of `size` tokens."""
        return min(size, self._max_sequences)

    def _host_arrays(self, index: int, size: int) -> _Arrays[NDArray[Any]]:
        if (index, size) not in self._made:
            tensors = self._arrays(torch.from_numpy(self._staging.array(index)), size)
            arrays = (getattr(tensors, field.name).numpy() for field in fields(tensors))
            self._made[index, size] = _Arrays(*arrays)
        return self._made[index, size]

    def _arrays(self, buffer: Tensor, size: int) -> _Arrays[Tensor]:
        offsets, _ = self._layout(size)
        placed = zip(offsets, self._shapes(size), strict=True)
        return _Arrays(*(tensor_at(buffer, offset, shape, dtype) for offset, (shape, dtype) in placed))

    def _layout(self, size: int) -> tuple[list[int], int]:
        return layout([int(np.prod(shape)) * dtype.itemsize for shape, dtype in self._shapes(size)])

    def _shapes(self, size: int) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of each array, in the order of the fields of `_Arrays`."""
        sequences = self._max_sequences
        return [
            *([((size,), torch.int64)] * 3),
            ((self._row_count(size),), torch.int64),
            ((sequences + 1,), torch.int32),
            *([((sequences,), torch.int32)] * 2),
            ((sequences, self._max_blocks), torch.int32),
        ]
