"""Restricts an output beyond its grammar: to some tokens only, and from texts that it must not contain."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class TokenRule(Protocol):
    """Which tokens may come next."""

    @property
    def is_finished(self) -> bool:
        """Whether the output is complete and nothing can follow it."""
        ...

    def mask(self, row: NDArray[np.float32]) -> None:
        """Sets the logits of tokens that are not allowed next to −inf, in `row` [vocab]."""
        ...

    def allowed_bits(self) -> NDArray[np.uint8]:
        """The tokens allowed next: bit i & 7 of byte i >> 3 for token i. It may be shorter than the vocabulary."""
        ...

    def consume(self, token_id: int) -> None:
        """Moves past a token."""
        ...

    def fork(self) -> Self:
        """Another rule at the same position; from then on, each moves by itself."""
        ...


class Restrictions:
    """A `TokenRule`: a grammar's, if there is one, without the tokens that the request excludes.

    If that leaves no token, the grammar alone counts, so that the output can go on.
    """

    def __init__(
        self,
        rule: TokenRule | None,
        *,
        allowed_token_ids: Sequence[int],
        bad_words: Iterable[tuple[int, ...]],
        vocab_size: int,
    ) -> None:
        """`allowed_token_ids`: the only tokens; empty: all. `bad_words`: token sequences, none empty."""
        self._rule = rule
        self._bad_words = tuple(bad_words)
        self._longest = max(map(len, self._bad_words), default=1)
        self._recent: list[int] = []
        bits = np.zeros(-(-vocab_size // 8) * 8, dtype=np.bool_)
        bits[:vocab_size] = not allowed_token_ids
        bits[list(allowed_token_ids)] = True
        self._allowed: NDArray[np.uint8] = np.packbits(bits, bitorder="little")

    @property
    def is_finished(self) -> bool:
        """Whether the grammar's output is complete."""
        return self._rule is not None and self._rule.is_finished

    def mask(self, row: NDArray[np.float32]) -> None:
        """Sets the logits of tokens that are not allowed next to −inf, in `row` [vocab]."""
        bits = self.allowed_bits()
        allowed = np.unpackbits(bits, count=min(8 * len(bits), len(row)), bitorder="little").view(np.bool_)
        np.putmask(row[: len(allowed)], ~allowed, -np.inf)
        row[len(allowed) :] = -np.inf

    def allowed_bits(self) -> NDArray[np.uint8]:
        """The tokens allowed next. Raises what the grammar's raises."""
        bits = self._allowed.copy()
        for word in self._bad_words:
            before, last = word[:-1], word[-1]
            if not before or tuple(self._recent[-len(before) :]) == before:
                bits[last >> 3] &= ~np.uint8(1 << (last & 7))
        if self._rule is None:
            return bits if bits.any() else self._allowed
        by_rule = self._rule.allowed_bits()
        both = by_rule[: len(bits)] & bits[: len(by_rule)]
        return both if both.any() else by_rule

    def consume(self, token_id: int) -> None:
        """Moves past a token."""
        if self._rule is not None:
            self._rule.consume(token_id)
        if self._longest > 1:
            self._recent = [*self._recent, token_id][1 - self._longest :]

    def fork(self) -> Self:
        """Another one at the same position."""
        forked = copy(self)  # nothing changes the lists themselves
        forked._rule = self._rule.fork() if self._rule is not None else None
        return forked
