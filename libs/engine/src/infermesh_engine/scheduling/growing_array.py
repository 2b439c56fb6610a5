"""Integers that grow one at a time and are read as one array: the tokens of a sequence, its KV blocks."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

IntT = TypeVar("IntT", np.int32, np.int64)


class GrowingArray(Generic[IntT]):
    """Integers, appended one at a time and read as one array."""

    __slots__ = ("_array", "_length")

    def __init__(self, values: NDArray[IntT]) -> None:
        self._array: NDArray[IntT] = values
        self._length = len(values)

    def __len__(self) -> int:
        return self._length

    @property
    def view(self) -> NDArray[IntT]:
        """All values, without a copy; valid until the next append."""
        view: NDArray[IntT] = self._array[: self._length]
        return view

    def append(self, value: int) -> None:
        if self._length == len(self._array):
            grown = np.empty(max(16, 2 * self._length), dtype=self._array.dtype)
            grown[: self._length] = self._array
            self._array = grown
        self._array[self._length] = value
        self._length += 1

    def pop(self) -> None:
        self._length -= 1

    def clear(self) -> None:
        self._length = 0
