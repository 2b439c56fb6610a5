"""Scores the tokens of a prompt in the steps that compute it: finds the rows of a batch that do, and reads them."""

from collections.abc import Iterable
from collections.abc import Sequence as Values
from dataclasses import dataclass

import numpy as np

from infermesh_engine.requests.output import TokenLogprob
from infermesh_engine.runners.runner import Logits
from infermesh_engine.runners.sampling_runner import NO_TOKEN, SampledRows
from infermesh_engine.sampling.broken import BrokenLogitsError, broken_rows
from infermesh_engine.sampling.picked_rows import PickedRows
from infermesh_engine.sampling.sampler import SampledToken, describe_token
from infermesh_engine.scheduling.batch_builder import scored_rows
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.prompt_scores import ScoredToken
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.text.token_bytes import TokenBytes


@dataclass(frozen=True, slots=True)
class Scoring:
    """The rows of a batch that score a prompt."""

    sequence: Sequence
    rows: range
    begin: int
    """The position of the first row."""
    top: int
    """Alternatives with each token."""
    token_ids: Values[int]
    """The tokens to score, one for each row."""

    @classmethod
    def of(cls, plan: Plan, sampled: Values[Sequence]) -> "Scoring | None":
        """That of a plan which is not committed yet; None if it scores nothing."""
        chunk = plan.scoring
        if chunk is None or chunk.sequence.scores is None:
            return None
        positions = chunk.scored
        token_ids = chunk.sequence.tokens.view[positions.start + 1 : positions.stop + 1].tolist()
        top = chunk.sequence.scores.top
        return cls(chunk.sequence, scored_rows(chunk, len(sampled)), positions.start, top, token_ids)

    def from_host(self, logits: Logits, token_bytes: TokenBytes) -> list[ScoredToken]:
        """Reads them from logits. Raises BrokenLogitsError if one is not finite."""
        if not broken_rows(logits).isdisjoint(self.rows):
            raise BrokenLogitsError
        return [
            _scored(describe_token(logits, row, token_id, self.top), token_bytes, _rank(logits, row, token_id))
            for row, token_id in zip(self.rows, self.token_ids, strict=True)
        ]

    def from_device(self, tokens: SampledRows, token_bytes: TokenBytes) -> list[ScoredToken]:
        """Reads them from what a device brought. Raises BrokenLogitsError if one has no token."""
        if tokens.logprobs is None or tokens.top_ids is None or tokens.top_logprobs is None:
            return []
        scored = []
        for row, token_id in zip(self.rows, self.token_ids, strict=True):
            if tokens.token_ids[row] == NO_TOKEN:
                raise BrokenLogitsError
            ids = tokens.top_ids[row].tolist()
            rank = ids.index(token_id) + 1 if token_id in ids else 0
            top = tuple(zip(ids[: self.top], tokens.top_logprobs[row].tolist(), strict=False))
            scored.append(_scored(SampledToken(token_id, float(tokens.logprobs[row]), top), token_bytes, rank))
        return scored


def number_rows(sampled: Values[Sequence], scoring: Scoring | None) -> list[tuple[int, Sequence]]:
    """The sampled sequences with their rows; rows that score come before that of the prompt's own next token."""
    if scoring is None:
        return list(enumerate(sampled))
    first, scored = scoring.rows.start, len(scoring.rows)
    return [(row if row < first else row + scored, sequence) for row, sequence in enumerate(sampled)]


def pick_rows(logits: Logits, rows: Iterable[tuple[int, Sequence]]) -> Logits:
    """The logits of the sampled sequences alone."""
    return PickedRows(logits, np.array([row for row, _ in rows], dtype=np.int64))


def _rank(logits: Logits, row: int, token_id: int) -> int:
    values = logits.row(row)
    return int((values >= values[token_id]).sum())


def _scored(token: SampledToken, token_bytes: TokenBytes, rank: int) -> ScoredToken:
    top = tuple(TokenLogprob(token_id, value, token_bytes[token_id]) for token_id, value in token.top)
    return ScoredToken(TokenLogprob(token.token_id, token.logprob or 0.0, token_bytes[token.token_id], top), rank)
