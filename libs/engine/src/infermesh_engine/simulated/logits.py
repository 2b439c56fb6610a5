"""Computes made-up logits from a hash of the context; builds a whole row only when asked."""

from functools import cached_property
from math import gcd

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import CANDIDATES

_STRIDE = 7919


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatters the bits of each value (splitmix64's finaliser, Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Vocabulary:
    """Shared by all rows: logits of improbable tokens in [-12, -8), which each row rotates, and candidates' offsets."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.base: NDArray[np.float32] = (-12 + 4 * _unit(mix(np.arange(1, size + 1, dtype=np.uint64)))).astype(
            np.float32
        )
        stride = next(stride for stride in range(_STRIDE, _STRIDE + size + 1) if gcd(stride, size) == 1)
        self.offsets: NDArray[np.int64] = np.arange(min(CANDIDATES, size), dtype=np.int64) * stride % size
        self._sums: dict[float, float] = {}

    def sum_exp(self, inverse_temperature: float) -> float:
        """Σ exp(base × inverse_temperature)."""
        if inverse_temperature not in self._sums:
            self._sums[inverse_temperature] = float(np.exp(self.base.astype(np.float64) * inverse_temperature).sum())
        return self._sums[inverse_temperature]


class SimulatedLogits:
    """Logits of R rows, each made from its digest: those of the candidates in (0, 8], all others below."""

    def __init__(
        self, vocabulary: Vocabulary, digests: NDArray[np.uint64], inverse_temperatures: NDArray[np.float32]
    ) -> None:
        self._vocabulary = vocabulary
        self._inverse_temperatures = inverse_temperatures
        places = len(vocabulary.offsets)
        first = (digests % np.uint64(vocabulary.size)).astype(np.int64)
        self._rotations = first
        seeds = np.add(digests[:, None], np.arange(1, places + 1, dtype=np.uint64), dtype=np.uint64)
        noise = _unit(mix(seeds))
        self._ids = ((first[:, None] + vocabulary.offsets) % vocabulary.size).astype(np.int32)
        self._logits = (8 - np.cumsum(0.01 + 0.1 * noise, axis=1)).astype(np.float32)

    @property
    def top_ids(self) -> NDArray[np.int32]:
        return self._ids

    @property
    def top_logits(self) -> NDArray[np.float32]:
        return self._logits

    @cached_property
    def logsumexp(self) -> NDArray[np.float32]:
        return self._logsumexp(np.ones_like(self._inverse_temperatures))

    @cached_property
    def scaled_logsumexp(self) -> NDArray[np.float32]:
        return self._logsumexp(self._inverse_temperatures)

    def row(self, index: int) -> NDArray[np.float32]:
        row = np.roll(self._vocabulary.base, self._rotations[index])
        row[self._ids[index]] = self._logits[index]
        return row

    def _logsumexp(self, scales: NDArray[np.float32]) -> NDArray[np.float32]:
        vocabulary = self._vocabulary
        column = scales[:, None].astype(np.float64)
        displaced = vocabulary.base[(self._ids - self._rotations[:, None]) % vocabulary.size]
        rest = np.array([vocabulary.sum_exp(scale) for scale in scales.tolist()])
        rest = rest - np.exp(displaced * column).sum(axis=1) if vocabulary.size > CANDIDATES else 0.0 * rest
        sums: NDArray[np.float64] = rest + np.exp(self._logits * column).sum(axis=1)
        return np.log(sums).astype(np.float32)


def _unit(values: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform in [0, 1)."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53
