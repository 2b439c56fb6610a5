"""Takes apart GGML's blocks of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4NON_LINEAR, MXFP4.

Each function gets the blocks of a tensor, uint8 [blocks, bytes], and its number of rows. The layouts are those of
gguf.quants (and ggml-quants.c).
"""

import numpy as np
from numpy.typing import NDArray

from infermesh_worker_cpu.gguf_graph.grouped import Bytes, Grouped, symmetric, with_minimum

BLOCK = 32
NON_LINEAR = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
_FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)


def q4_0(blocks: Bytes, rows: int) -> Grouped:
    quants = nibbles(blocks[:, 2:]).reshape(rows, -1, BLOCK)
    scale = half(blocks, 0).reshape(rows, -1, 1)
    return Grouped(bits="u4", quants=quants, scale=scale, zero=np.full((1, 1, 1), 8, np.uint8))


def q4_1(blocks: Bytes, rows: int) -> Grouped:
    return with_minimum(rows, nibbles(blocks[:, 4:]), single(blocks, 0), single(blocks, 2), size=BLOCK, bits=4)


def q5_0(blocks: Bytes, rows: int) -> Grouped:
    quants = nibbles(blocks[:, 6:]) | (_fifth_bits(blocks[:, 2:6]) << 4)
    return symmetric(rows, quants.astype(np.int8) - np.int8(16), half(blocks, 0), size=BLOCK)


def q5_1(blocks: Bytes, rows: int) -> Grouped:
    quants = nibbles(blocks[:, 8:]) | (_fifth_bits(blocks[:, 4:8]) << 4)
    return with_minimum(rows, quants, single(blocks, 0), single(blocks, 2), size=BLOCK, bits=5)


def q8_0(blocks: Bytes, rows: int) -> Grouped:
    return symmetric(rows, np.ascontiguousarray(blocks[:, 2:]).view(np.int8), half(blocks, 0), size=BLOCK)


def iq4_nl(blocks: Bytes, rows: int) -> Grouped:
    return symmetric(rows, NON_LINEAR[nibbles(blocks[:, 2:])], half(blocks, 0), size=BLOCK)


def mxfp4(blocks: Bytes, rows: int) -> Grouped:
    """The table holds twice the values, and the exponent half the scale."""
    scale = np.ldexp(np.float32(1), blocks[:, 0].astype(np.int32) - 128)
    return symmetric(rows, _FP4[nibbles(blocks[:, 1:])], scale, size=BLOCK)


def nibbles(packed: Bytes) -> Bytes:
    """The low halves of a block's bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def half(blocks: Bytes, at: int) -> NDArray[np.float16]:
    """The float16 at a byte offset of each block."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16)


def single(blocks: Bytes, at: int) -> NDArray[np.float32]:
    """The same as float32."""
    return half(blocks, at).astype(np.float32)


def _fifth_bits(packed: Bytes) -> Bytes:
    return np.unpackbits(np.ascontiguousarray(packed), axis=1, bitorder="little")
