"""What the sampling of one choice remembers from token to token: parameters, position, penalties and grammar."""

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.sampling.adjustments import Adjustments
from infermesh_engine.sampling.inversion import DrawParams
from infermesh_engine.sampling.restrictions import TokenRule
from infermesh_engine.sampling.uniform import UniformStream

_GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: dividing by them overflows float32."""


class SamplerState:
    """The sampling state of one choice."""

    __slots__ = (
        "_adjustments",
        "_ban_until",
        "_banned",
        "_grammar",
        "_position",
        "_uniforms",
        "filters",
        "greedy",
        "inverse_temperature",
        "logprobs",
        "needs_row",
        "only_masked",
        "vocab_size",
    )

    def __init__(
        self,
        params: SamplingParams,
        *,
        seed: int,
        choice: int,
        prompt_token_ids: Sequence[int],
        logprobs: int | None,
        banned_until_min_tokens: frozenset[int],
        min_tokens: int,
        grammar: TokenRule | None,
        vocab_size: int,
    ) -> None:
        self.greedy = params.temperature < _GREEDY_BELOW
        # rounded as the runner gets it: both must scale by the same number
        self.inverse_temperature = 1.0 if self.greedy else float(np.float32(1 / params.temperature))
        self.filters = (self.inverse_temperature, float(params.top_k), params.top_p, params.min_p)
        self.logprobs = logprobs
        self.vocab_size = vocab_size
        self._adjustments = Adjustments(params, prompt_token_ids)
        self._uniforms = UniformStream(seed, choice)
        self._grammar = grammar
        self.only_masked = grammar is not None and not self._adjustments.changes_logits
        """Whether `mask` is all that changes the logits."""
        self._banned = np.array([i for i in banned_until_min_tokens if i < vocab_size], dtype=np.int64)
        self._ban_until = min_tokens if banned_until_min_tokens else 0
        self._position = 0
        self.needs_row = self._changes_logits()
        """Whether the next token needs the whole row of logits, not only the runner's most probable tokens."""

    def observe(self, token_id: int) -> None:
        """Moves to the next position after a token of the output, sampled or replayed.

        Raises InvalidArgument when the grammar does not admit the token or exceeds its limits; the state must not be
        used after that.
        """
        self._position += 1
        self._adjustments.observe(token_id)
        if self._grammar is not None:
            self._grammar.consume(token_id)
        elif self._position == self._ban_until:
            self.needs_row = self._changes_logits()

    def after(self, token_id: int) -> "SamplerState":
        """The state behind a token that may come next; this one stays as it is. Raises as `observe`."""
        later = copy(self)
        if self.needs_row:
            later._adjustments = self._adjustments.fork()
            later._grammar = self._grammar.fork() if self._grammar is not None else None
        later.observe(token_id)
        return later

    @property
    def finished_by_grammar(self) -> bool:
        """Whether the output is complete and nothing can follow it."""
        return self._grammar is not None and self._grammar.is_finished

    @property
    def uniform(self) -> float:
        """The random number for this position, in [0, 1)."""
        return self._uniforms.at(self._position)

    def adjusted(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of `row` [vocab] with bias, penalties, grammar and bans applied; excluded tokens are −inf."""
        row = row.copy()
        self._adjustments.apply(row)
        if self._grammar is not None:
            self._grammar.mask(row)
        if self._position < self._ban_until:
            self._ban(row)
        return row

    @property
    def adjustments(self) -> Adjustments:
        """Bias and penalties."""
        return self._adjustments

    @property
    def mask(self) -> NDArray[np.uint8] | None:
        """[⌈vocab / 8⌉], the tokens that grammar and bans admit: bit i & 7 of byte i >> 3. None without a grammar.

        Raises as GrammarState.allowed_bits.
        """
        if self._grammar is None:
            return None
        mask = np.zeros(-(-self.vocab_size // 8), dtype=np.uint8)
        bits = self._grammar.allowed_bits()[: len(mask)]
        mask[: len(bits)] = bits
        if self.vocab_size % 8:
            mask[-1] &= (1 << self.vocab_size % 8) - 1
        if self._position < self._ban_until:
            left = mask.copy()
            np.bitwise_and.at(left, self._banned >> 3, ~np.left_shift(1, self._banned & 7).astype(np.uint8))
            return left if left.any() else mask
        return mask

    @property
    def banned(self) -> NDArray[np.int64]:
        """Tokens banned at this position, for use without a grammar; empty if they are the whole vocabulary."""
        is_banned = self._position < self._ban_until and len(self._banned) < self.vocab_size
        return self._banned if is_banned else self._banned[:0]

    def _changes_logits(self) -> bool:
        return self._adjustments.changes_logits or self._grammar is not None or self._position < self._ban_until

    def _ban(self, row: NDArray[np.float32]) -> None:
        """Excludes the banned tokens, unless the grammar admits no others: a finished output ends before min_tokens."""
        before = row[self._banned]
        row[self._banned] = -np.inf
        if row.max() == -np.inf:
            row[self._banned] = before


def draw_params(states: Sequence[SamplerState]) -> tuple[NDArray[np.float64], DrawParams]:
    """Inverse temperatures [S] and the other parameters of the next draws."""
    columns = np.array([(*state.filters, state.uniform) for state in states]).T
    return columns[0], DrawParams(top_k=columns[1], top_p=columns[2], min_p=columns[3], uniforms=columns[4])
