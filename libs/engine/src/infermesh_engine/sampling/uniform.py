"""Makes the random numbers of sampling: one for each seed, choice and position, whatever the batch."""

import numpy as np

_BLOCK = 64
_WORDS_PER_COUNTER = 4


class UniformStream:
    """The random numbers of one choice of one request, by position.

    Number `position` is the upper 53 bits, as a fraction, of word `position` of the Philox4x64-10 stream whose key is
    (seed, choice) and whose first counter is 1 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
    as in numpy.random.Philox, whose raw words are the same in every version of numpy). Words are made a block at a
    time, because making a generator costs more than 64 words.
    """

    __slots__ = ("_block", "_key", "_numbers")

    def __init__(self, seed: int, choice: int) -> None:
        """`seed` and `choice` in [0, 2**64)."""
        self._key = np.array([seed, choice], dtype=np.uint64)
        self._block: int | None = None
        self._numbers: list[float] = []

    def at(self, position: int) -> float:
        """The number for `position` ≥ 0, in [0, 1)."""
        block, offset = divmod(position, _BLOCK)
        if block != self._block:
            generator = np.random.Philox(key=self._key, counter=block * (_BLOCK // _WORDS_PER_COUNTER))
            words = generator.random_raw(_BLOCK)
            self._numbers = ((words >> np.uint64(11)) * 2.0**-53).tolist()
            self._block = block
        return self._numbers[offset]
