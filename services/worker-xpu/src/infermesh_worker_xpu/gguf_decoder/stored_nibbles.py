"""Takes apart GGML's blocks whose weights are 4-bit numbers in groups of 32: Q4_0, Q4_1, Q4_K.

The layouts are those of gguf.quants (and ggml-quants.c).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from infermesh_worker_xpu.nibbles import GROUP, Nibbles

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.float32]

_BLOCK_BYTES: Mapping[Kind, int] = {Kind.Q4_0: 18, Kind.Q4_1: 20, Kind.Q4_K: 144}


def can_take_apart(kind: Kind) -> bool:
    """Whether weights of this type are such numbers."""
    return kind in _BLOCK_BYTES


def take_apart(stored: Bytes, kind: Kind, dtype: torch.dtype) -> Nibbles:
    """The numbers of rows as a file stores them, uint8 [rows, bytes], of a type that `can_take_apart` names."""
    rows, blocks = len(stored), np.ascontiguousarray(stored).reshape(-1, _BLOCK_BYTES[kind])
    numbers, scales, bases = _FOUR_BITS[kind](blocks)
    return Nibbles.of(_by_row(numbers, rows), _by_row(scales, rows), _by_row(bases, rows), dtype)


def _q4_0(blocks: Bytes) -> tuple[Bytes, Numbers, Numbers]:
    scales = _half(blocks, 0)
    return _halves(blocks[:, 2:]), scales, np.zeros_like(scales)


def _q4_1(blocks: Bytes) -> tuple[Bytes, Numbers, Numbers]:
    scales = _half(blocks, 0)
    return _halves(blocks[:, 4:]), scales, _half(blocks, 2) + 8 * scales


def _q4_k(blocks: Bytes) -> tuple[Bytes, Numbers, Numbers]:
    """The six bits of each of eight scales and minima are spread over twelve bytes."""
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    sixths = np.concatenate([first & 63, (rest & 15) | ((first >> 2) & 48)], axis=1)
    minima = np.concatenate([second & 63, (rest >> 4) | ((second >> 2) & 48)], axis=1)
    scales: Numbers = _half(blocks, 0) * sixths
    runs = blocks[:, 16:].reshape(len(blocks), 4, GROUP)
    return np.stack([runs & 15, runs >> 4], 2), scales, 8 * scales - _half(blocks, 2) * minima


def _by_row(part: NDArray[Any], rows: int) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(part).reshape(rows, -1))


def _halves(packed: Bytes) -> Bytes:
    """The low halves of a block's bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _half(blocks: Bytes, at: int) -> Numbers:
    """The float16 at a byte offset of each block, [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


_FOUR_BITS: Mapping[Kind, Callable[[Bytes], tuple[Bytes, Numbers, Numbers]]] = {
    Kind.Q4_0: _q4_0,
    Kind.Q4_1: _q4_1,
    Kind.Q4_K: _q4_k,
}
