"""Buffers of a step: fixed memory for graphs, packed uploads and packed downloads."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infermesh_worker_xpu.steps.decode_buffers import DecodeBuffers
from infermesh_worker_xpu.steps.download import _packed
from infermesh_worker_xpu.steps.upload import ALIGNMENT_BYTES, Upload, layout, tensor_at

CPU = torch.device("cpu")


def test_static_memory_is_the_same_for_every_step_of_a_size() -> None:
    inputs = DecodeBuffers(max_rows=8, max_blocks=5, padding_block=7, block_size=32, device=CPU)
    first, again = inputs.step(4), inputs.step(4)
    assert first.decode is not None
    assert again.decode is not None
    assert first.decode.block_tables is not again.decode.block_tables
    for name in ("token_ids", "positions", "slots", "rows"):
        assert getattr(first, name).data_ptr() == getattr(again, name).data_ptr()
        assert getattr(first, name).data_ptr() % 8 == 0
    inputs.fill(None, 4)
    assert first.slots.tolist() == [7 * 32] * 4
    assert first.decode.block_tables[:, 0].tolist() == [7] * 4
    assert first.decode.context_lens.tolist() == [1] * 4
    larger = inputs.step(8).decode
    assert larger is not None
    assert larger.block_tables.shape == (8, 5)


def test_an_upload_keeps_shapes_and_values_and_not_the_arrays() -> None:
    arrays: list[NDArray[Any]] = [
        np.arange(3),
        np.zeros((0, 4), np.int32),
        np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2],
    ]
    sent = Upload(CPU).send(arrays)
    assert [tuple(t.shape) for t in sent] == [(3,), (0, 4), (2, 2)]
    arrays[0][:] = 9
    assert sent[0].tolist() == [0, 1, 2]
    assert sent[2].tolist() == [[0, 2], [3, 5]]


def test_arrays_are_aligned_in_their_buffer() -> None:
    assert layout([8, 0, 20]) == ([0, 16, 16], 48)
    assert ALIGNMENT_BYTES == 16


def test_what_is_packed_for_the_host_is_found_there() -> None:
    tensors = [torch.arange(3), torch.rand(5), torch.empty((0, 4)), torch.arange(6, dtype=torch.int32).view(2, 3)]
    packed = _packed(tensors)
    offsets, size = layout([tensor.nbytes for tensor in tensors])
    assert packed.numel() == size
    for tensor, offset in zip(tensors, offsets, strict=True):
        assert torch.equal(tensor_at(packed, offset, tensor.shape, tensor.dtype), tensor)
