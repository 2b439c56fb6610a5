"""Owns the choice of each sequence's next token from a batch's logits. Knows no device, no text and no scheduling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.runners.runner import Logits
from infermesh_engine.sampling import full_row
from infermesh_engine.sampling.adjustments import Adjustments
from infermesh_engine.sampling.grammar import GrammarState
from infermesh_engine.sampling.inversion import DrawParams, invert, total_weights
from infermesh_engine.sampling.uniform import UniformStream

_GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: dividing by them overflows float32."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A chosen token."""

    token_id: int
    logprob: float | None
    """Natural log of its probability at temperature 1, before any change to the logits; None unless asked for."""
    top: tuple[tuple[int, float], ...]
    """The most probable tokens of the model and their log probabilities, most probable first."""


class SamplerState:
    """What the sampling of one choice remembers between tokens: parameters, position, penalties, grammar."""

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
        grammar: GrammarState | None,
        vocab_size: int,
    ) -> None:
        self.greedy = params.temperature < _GREEDY_BELOW
        # as the runner sees it: both must scale by the same number
        self.inverse_temperature = 1.0 if self.greedy else float(np.float32(1 / params.temperature))
        self.filters = (self.inverse_temperature, float(params.top_k), params.top_p, params.min_p)
        self.logprobs = logprobs
        self.vocab_size = vocab_size
        self._adjustments = Adjustments(params, prompt_token_ids)
        self._uniforms = UniformStream(seed, choice)
        self._grammar = grammar
        self._banned = np.array([i for i in banned_until_min_tokens if i < vocab_size], dtype=np.int64)
        self._ban_until = min_tokens if banned_until_min_tokens else 0
        self._position = 0
        self.needs_row = self._changes_logits()
        """Whether the next token cannot be chosen from the runner's candidates."""

    def observe(self, token_id: int) -> None:
        """Goes on to the next position after a token of the output, sampled or replayed.

        Raises InvalidArgument when the grammar does not admit the token or is beyond its limits; the state is not used
        after that.
        """
        self._position += 1
        self._adjustments.observe(token_id)
        if self._grammar is not None:
            self._grammar.consume(token_id)
        elif self._position == self._ban_until:
            self.needs_row = self._changes_logits()

    @property
    def finished_by_grammar(self) -> bool:
        """Whether the output is complete and nothing can follow it."""
        return self._grammar is not None and self._grammar.is_finished

    @property
    def uniform(self) -> float:
        """The random number of this position, in [0, 1)."""
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
        """[⌈vocab / 8⌉], the tokens that the grammar and bans admit, bit i & 7 of byte i >> 3; None without a grammar.

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
        """Tokens that may not come now where there is no grammar, unless they are all there are."""
        is_banned = self._position < self._ban_until and len(self._banned) < self.vocab_size
        return self._banned if is_banned else self._banned[:0]

    def _changes_logits(self) -> bool:
        return self._adjustments.changes_logits or self._grammar is not None or self._position < self._ban_until

    def _ban(self, row: NDArray[np.float32]) -> None:
        """Excludes the banned tokens, unless the grammar admits nothing else: its end is not put off by min_tokens."""
        before = row[self._banned]
        row[self._banned] = -np.inf
        if row.max() == -np.inf:
            row[self._banned] = before


def sample(logits: Logits, states: Sequence[SamplerState]) -> list[SampledToken | Exception]:
    """The next token of each sequence; `states[i]` belongs to row i. Changes no state: the caller observes tokens.

    In place of a token, what its own bias, penalties or grammar raised; the other sequences' tokens stand.
    """
    token_ids: list[int | Exception] = logits.top_ids[:, 0].tolist()
    drawn: list[int] = []
    for i, state in enumerate(states):
        if state.needs_row:
            token_ids[i] = _try_adjusted(logits.row(i), state)
        elif not state.greedy:
            drawn.append(i)
    if drawn:
        for i, token_id in zip(drawn, _draw(logits, drawn, states), strict=True):
            token_ids[i] = token_id
    return [
        token_id if isinstance(token_id, Exception) else _sampled(logits, i, token_id, state.logprobs)
        for i, (token_id, state) in enumerate(zip(token_ids, states, strict=True))
    ]


def _draw(logits: Logits, rows: list[int], states: Sequence[SamplerState]) -> list[int]:
    """The tokens of `rows`, whose logits nothing changes: from the runner's candidates where they decide."""
    index = np.array(rows)
    inverse_temperatures, draws = _draws([states[i] for i in rows])
    candidates = logits.top_logits[index]
    vocab_size = states[rows[0]].vocab_size
    weights = full_row.relative_weights(candidates, inverse_temperatures)
    excess = logits.scaled_logsumexp[index] - candidates[:, 0] * inverse_temperatures
    totals = total_weights(weights, excess, vocab_size)
    columns, decided = invert(weights, totals, draws, complete=candidates.shape[1] >= vocab_size)
    token_ids: list[int] = logits.top_ids[index, columns].tolist()
    if not decided.all():
        for j in np.flatnonzero(~decided).tolist():
            row, state = rows[j], states[rows[j]]
            token_ids[j] = full_row.choose(
                logits.row(row),
                state.inverse_temperature,
                _draws([state])[1],
                total=float(totals[j]),
                beyond=float(candidates[j, -1]),
            )
    return token_ids


def _try_adjusted(row: NDArray[np.float32], state: SamplerState) -> int | Exception:
    try:
        return _choose_adjusted(row, state)
    except Exception as error:  # a boundary: a grammar library met by one request must not end the others
        return error


def _choose_adjusted(row: NDArray[np.float32], state: SamplerState) -> int:
    adjusted = state.adjusted(row)
    if state.greedy:
        return int(adjusted.argmax())
    return full_row.choose(adjusted, state.inverse_temperature, _draws([state])[1])


def _draws(states: Sequence[SamplerState]) -> tuple[NDArray[np.float64], DrawParams]:
    """Inverse temperatures [S], and the draws, of `states`."""
    columns = np.array([(*state.filters, state.uniform) for state in states]).T
    return columns[0], DrawParams(top_k=columns[1], top_p=columns[2], min_p=columns[3], uniforms=columns[4])


def _sampled(logits: Logits, row: int, token_id: int, alternatives: int | None) -> SampledToken:
    """The token, unless None with its log probability and those of the `alternatives` most probable ones."""
    if alternatives is None:
        return SampledToken(token_id, None, ())
    ids: list[int] = logits.top_ids[row].tolist()
    logsumexp = float(logits.logsumexp[row])
    values: list[float] = logits.top_logits[row].tolist()
    logit = values[ids.index(token_id)] if token_id in ids else float(logits.row(row)[token_id])
    top = tuple((i, value - logsumexp) for i, value in zip(ids[:alternatives], values, strict=False))
    return SampledToken(token_id, logit - logsumexp, top)
