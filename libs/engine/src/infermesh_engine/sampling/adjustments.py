"""Applies logit bias and penalties to a row of logits."""

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.requests.request import SamplingParams


class Adjustments:
    """Logit bias and penalties of one sequence, with the counts of the tokens it has seen so far."""

    __slots__ = (
        "_bias",
        "_biased_ids",
        "_counts",
        "_ids",
        "_length",
        "_params",
        "_penalised",
        "_slots",
        "changes_logits",
    )

    def __init__(self, params: SamplingParams, prompt_token_ids: Sequence[int]) -> None:
        self._params = params
        self._biased_ids = np.fromiter(params.logit_bias, dtype=np.int64)
        self._bias = np.fromiter(params.logit_bias.values(), dtype=np.float32)
        self._penalised = bool(params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty)
        self.changes_logits = self._penalised or len(self._bias) > 0
        self._slots: dict[int, int] = {}
        self._ids = np.empty(64, dtype=np.int64)
        self._counts = np.zeros(64, dtype=np.float32)
        self._length = 0
        if params.repetition_penalty != 1:
            for token_id in dict.fromkeys(prompt_token_ids):
                self._slot(token_id)

    def observe(self, token_id: int) -> None:
        """Counts a token of the output."""
        if self._penalised:
            slot = self._slot(token_id)
            self._counts[slot] += 1

    def fork(self) -> "Adjustments":
        """Another one with the same counts; from then on, each counts by itself."""
        if not self._penalised:
            return self
        forked = copy(self)
        forked._slots, forked._ids, forked._counts = self._slots.copy(), self._ids.copy(), self._counts.copy()
        return forked

    @property
    def bias(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Token ids, and what is added to their logits."""
        return self._biased_ids, self._bias

    @property
    def seen(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The penalised token ids, and how often each is in the output. Views, valid until `observe`."""
        return self._ids[: self._length], self._counts[: self._length]

    @property
    def penalties(self) -> tuple[float, float, float]:
        """Repetition, frequency, presence."""
        params = self._params
        return params.repetition_penalty, params.frequency_penalty, params.presence_penalty

    def apply(self, row: NDArray[np.float32]) -> None:
        """Changes `row` [vocab] in place."""
        if len(self._bias):
            row[self._biased_ids] += self._bias
        if not self._length:
            return
        ids, counts = self._ids[: self._length], self._counts[: self._length]
        logits = row[ids]
        repetition = np.float32(self._params.repetition_penalty)
        if repetition != 1:
            logits = np.where(logits > 0, logits / repetition, logits * repetition)
        logits -= np.float32(self._params.frequency_penalty) * counts
        logits -= np.float32(self._params.presence_penalty) * (counts > 0)
        row[ids] = logits

    def _slot(self, token_id: int) -> int:
        """Index at which the token is counted; makes room for a new one."""
        slot = self._slots.setdefault(token_id, self._length)
        if slot == self._length:
            if slot == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[slot] = token_id
            self._length += 1
        return slot
