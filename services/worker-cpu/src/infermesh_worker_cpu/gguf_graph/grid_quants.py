"""Takes apart GGML's types that look weights up in a grid (IQ1 to IQ3, TQ): each group is whole numbers times a scale.

gguf dequantises them, and the whole numbers are found again from the few that a type has.
"""

from collections.abc import Callable

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from infermesh_worker_cpu.gguf_graph.grouped import Bytes, Grouped, symmetric

_IQ2 = (43, 25, 8)
_PIECE = 1 << 13
"""Blocks, of 256 weights each, that are dequantised at a time; each weight needs several times its four bytes."""
_CLOSE = 1e-4
"""Products of the right number are whole up to float32's rounding; of a wrong one, at least 1/62 away."""


def _by_integers(kind: Kind, size: int, largest: tuple[int, ...]) -> Callable[[Bytes, int], Grouped]:
    """`largest`: which numbers the largest weight of a group may stand for."""

    def grouped(blocks: Bytes, rows: int) -> Grouped:
        pieces = [
            _whole_numbers(gguf.dequantize(blocks[begin : begin + _PIECE], kind).reshape(-1, size), largest)
            for begin in range(0, len(blocks), _PIECE)
        ]
        quants, scale = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return symmetric(rows, quants, scale, size=size)

    return grouped


def _whole_numbers(
    values: NDArray[np.float32], largest: tuple[int, ...]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Int8 numbers and the scale of each row. The scale of a row that is not finite is not finite either."""
    quants, scale = np.zeros(values.shape, np.int8), np.abs(values).max(1)
    left = np.flatnonzero(np.isfinite(scale) & (scale > 0))
    for number in largest:
        products = values[left] * (np.float32(number) / scale[left, None])
        whole = np.rint(products)
        fits = np.abs(products - whole).max(1, initial=0.0) < _CLOSE
        quants[left[fits]] = whole[fits].astype(np.int8)
        scale[left[fits]] /= np.float32(number)
        left = left[~fits]
    scale[left] = np.nan
    return quants, scale


iq1_s = _by_integers(Kind.IQ1_S, 32, (9, 7, 1))
iq2_xxs = _by_integers(Kind.IQ2_XXS, 32, _IQ2)
iq2_xs = _by_integers(Kind.IQ2_XS, 16, _IQ2)
iq2_s = _by_integers(Kind.IQ2_S, 16, _IQ2)
iq3_xxs = _by_integers(Kind.IQ3_XXS, 32, (62, 52, 44, 36, 28, 20, 12, 4))
iq3_s = _by_integers(Kind.IQ3_S, 32, (15, 13, 11, 9, 7, 5, 3, 1))
tq1_0 = _by_integers(Kind.TQ1_0, 32, (1,))
tq2_0 = _by_integers(Kind.TQ2_0, 32, (1, 2))  # two bits have room for a 2 as well
