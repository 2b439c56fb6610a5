"""Weights in groups that share a scale and a zero point: (q - zero) * scale, the form that OpenVINO computes with."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Weights [rows, columns] as [rows, groups, columns / groups]."""

    bits: Literal["u4", "u8", "i8"]
    quants: NDArray[Any]
    """uint8, or int8 for "i8"; "u4" uses values 0 to 15, one in each byte."""
    scale: NDArray[Any]
    """[rows, groups, 1], float16 where the file has such scales, otherwise float32."""
    zero: NDArray[Any] | None
    """[rows, groups, 1] float32, one uint8 for all groups as [1, 1, 1], or None for 0."""

    def values(self) -> NDArray[np.float32]:
        """The weights as numbers, [rows, columns]."""
        numbers = self.quants.astype(np.float32)
        if self.zero is not None:
            numbers = numbers - self.zero.astype(np.float32)
        rows, groups, size = numbers.shape
        return (numbers * self.scale.astype(np.float32)).reshape(rows, groups * size)


def symmetric(rows: int, quants: NDArray[np.int8], scale: NDArray[Any], *, size: int) -> Grouped:
    """Groups of `size` whose zero is 0."""
    return Grouped(bits="i8", quants=quants.reshape(rows, -1, size), scale=scale.reshape(rows, -1, 1), zero=None)


def with_minimum(
    rows: int, quants: NDArray[Any], scale: NDArray[np.float32], minimum: NDArray[np.float32], *, size: int, bits: int
) -> Grouped:
    """Groups of `size` that the file stores as q * scale + minimum.

    In float32 the zero point -minimum / scale loses no more than the last bit of the result. A group without a scale is
    constant: it becomes (0 - 1) * -minimum.
    """
    quants, scale, minimum = quants.reshape(rows, -1, size), scale.reshape(rows, -1, 1), minimum.reshape(rows, -1, 1)
    constant = scale == 0
    safe = np.where(constant, -minimum, scale)
    zero = np.where(constant, np.float32(1), -minimum / np.where(constant, np.float32(1), scale))
    if constant.any():
        quants = np.where(constant, np.uint8(0), quants)
    return Grouped(bits="u4" if bits <= 4 else "u8", quants=quants, scale=safe, zero=zero.astype(np.float32))
