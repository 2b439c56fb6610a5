"""Takes apart GGML's blocks of 256 weights: Q2_K to Q6_K and IQ4_XS. Scales are themselves quantised in a block.

Each function gets the blocks of a tensor, uint8 [blocks, bytes], and its number of rows. The layouts are those of
gguf.quants (and ggml-quants.c).
"""

import numpy as np
from numpy.typing import NDArray

from infermesh_worker_cpu.gguf_graph.grouped import Bytes, Grouped, symmetric, with_minimum
from infermesh_worker_cpu.gguf_graph.legacy_quants import NON_LINEAR, single


def q2_k(blocks: Bytes, rows: int) -> Grouped:
    scales, quants = blocks[:, :16], _planes(blocks[:, 16:80], 32, (0, 2, 4, 6)) & 3
    scale = single(blocks, 80) * (scales & 15).astype(np.float32)
    minimum = -single(blocks, 82) * (scales >> 4).astype(np.float32)
    return with_minimum(rows, quants, scale, minimum, size=16, bits=2)


def q3_k(blocks: Bytes, rows: int) -> Grouped:
    high, low = _planes(blocks[:, :32], 32, tuple(range(8))) & 1, _planes(blocks[:, 32:96], 32, (0, 2, 4, 6)) & 3
    packed = blocks[:, 96:108]
    scale_low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=1)
    scale_high = np.concatenate([(packed[:, 8:] >> shift) & 3 for shift in (0, 2, 4, 6)], axis=1)
    scale = (scale_low | (scale_high << 4)).astype(np.float32) - 32
    quants = low.astype(np.int8) - ((high ^ 1) << 2).astype(np.int8)
    return symmetric(rows, quants, single(blocks, 108) * scale, size=16)


def q4_k(blocks: Bytes, rows: int) -> Grouped:
    scale, minimum = _scales_and_minima(blocks)
    return with_minimum(rows, _planes(blocks[:, 16:], 32, (0, 4)) & 15, scale, minimum, size=32, bits=4)


def q5_k(blocks: Bytes, rows: int) -> Grouped:
    scale, minimum = _scales_and_minima(blocks)
    low, high = _planes(blocks[:, 48:], 32, (0, 4)) & 15, _planes(blocks[:, 16:48], 32, tuple(range(8))) & 1
    return with_minimum(rows, low | (high << 4), scale, minimum, size=32, bits=5)


def q6_k(blocks: Bytes, rows: int) -> Grouped:
    low, high = _planes(blocks[:, :128], 64, (0, 4)) & 15, _planes(blocks[:, 128:192], 32, (0, 2, 4, 6)) & 3
    quants = (low | (high << 4)).astype(np.int8) - np.int8(32)
    scale = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    return symmetric(rows, quants, single(blocks, 208) * scale, size=16)


def iq4_xs(blocks: Bytes, rows: int) -> Grouped:
    high = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16)
    low = blocks[:, 4:8]
    scale_low = np.stack([low & 15, low >> 4], axis=2).reshape(len(blocks), 8)
    scale_high = ((high >> np.arange(0, 16, 2, dtype=np.uint16)) & 3).astype(np.uint8)
    scale = (scale_low | (scale_high << 4)).astype(np.float32) - 32
    return symmetric(rows, NON_LINEAR[_planes(blocks[:, 8:], 16, (0, 4)) & 15], single(blocks, 0) * scale, size=32)


def _planes(packed: Bytes, width: int, shifts: tuple[int, ...]) -> Bytes:
    """Spreads each run of `width` bytes into one plane for each shift, in the order of the weights."""
    runs = packed.reshape(len(packed), -1, 1, width)
    planes: Bytes = runs >> np.array(shifts, np.uint8).reshape(1, 1, -1, 1)
    return planes.reshape(len(packed), -1)


def _scales_and_minima(blocks: Bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The eight scales and minima of each Q4_K or Q5_K block, whose six bits are spread over twelve bytes."""
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = np.concatenate([first & 63, (rest & 15) | ((first >> 2) & 48)], axis=1)
    minimum = np.concatenate([second & 63, (rest >> 4) | ((second >> 2) & 48)], axis=1)
    return single(blocks, 0) * scale.astype(np.float32), -single(blocks, 2) * minimum.astype(np.float32)
