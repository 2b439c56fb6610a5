"""Chooses tokens and their log probabilities in torch, on the device that holds the logits.

Nothing here waits for an accelerator. A row's token does not depend on the other rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infermesh_engine.runners.sampling_runner import NO_TOKEN, SampledRows, SamplingBatch
from infermesh_worker_xpu.sampling import drawing, logit_edits, ranking
from infermesh_worker_xpu.sampling.drawing import Draw
from infermesh_worker_xpu.sampling.sampling_tensors import LogprobRequest, SamplingTensors


@dataclass(frozen=True, slots=True)
class ChosenLogprobs:
    """Log probabilities of A rows, at temperature 1 and before any edit; float32."""

    chosen: Tensor
    """[A]"""
    top_ids: Tensor
    """[A, K] int64"""
    top: Tensor
    """[A, K]"""


@dataclass(frozen=True, slots=True)
class ChosenTokens:
    """SampledRows of R rows on the device, and log probabilities of the rows that asked for them, in row order."""

    token_ids: Tensor
    """[R] int64."""
    logprobs: ChosenLogprobs | None

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that the host needs, in the order that `to_tokens` expects."""
        asked = self.logprobs
        return [self.token_ids] if asked is None else [self.token_ids, asked.chosen, asked.top_ids, asked.top]


def choose_tokens(logits: Tensor, batch: SamplingTensors, draw: Draw = drawing.draw) -> ChosenTokens:
    """Chooses tokens from logits [R, V] of any float dtype, which are not changed; NO_TOKEN where there is none."""
    finite = logits.amax(1).isfinite()  # amax passes NaN on
    token_ids = torch.where(finite, _token_ids(logits, batch, draw), NO_TOKEN)
    return ChosenTokens(token_ids, None if batch.asked is None else _logprobs(logits, token_ids, batch.asked))


def to_tokens(arrays: Sequence[NDArray[Any]], batch: SamplingBatch) -> SampledRows:
    """The engine's `SampledRows`, made from `ChosenTokens.tensors` once they are on the host."""
    if batch.alternatives is None:
        return SampledRows(token_ids=arrays[0])
    rows = np.flatnonzero(batch.alternatives >= 0)
    logprobs, top_ids, top = (_spread(array, rows, batch.rows) for array in arrays[1:])
    return SampledRows(token_ids=arrays[0], logprobs=logprobs, top_ids=top_ids.astype(np.int32), top_logprobs=top)


def _spread(array: NDArray[Any], rows: NDArray[np.int64], count: int) -> NDArray[Any]:
    """The array's rows at their indices `rows` in an array of `count` rows."""
    if len(rows) == count:
        return array
    spread = np.zeros((count, *array.shape[1:]), dtype=array.dtype)
    spread[rows] = array
    return spread


def _token_ids(logits: Tensor, batch: SamplingTensors, draw: Draw) -> Tensor:
    if batch.edits is not None:
        logits = logits.to(torch.float32, copy=True)
        logit_edits.apply(logits, batch.edits)
    draws = batch.draws
    if draws is None:
        return logits.argmax(1)
    if len(draws.rows) == len(logits):
        return draw(logits.float(), draws)
    drawn = draw(logits[draws.rows].float(), draws)
    return logits.argmax(1).index_copy_(0, draws.rows, drawn)


def _logprobs(logits: Tensor, token_ids: Tensor, asked: LogprobRequest) -> ChosenLogprobs:
    if len(asked.rows) < len(logits):
        logits, token_ids = logits[asked.rows], token_ids[asked.rows]
    logits = logits.float()
    sums = logits.logsumexp(1, keepdim=True)
    ids, top = ranking.top(logits, min(max(1, asked.alternatives), logits.shape[1]))
    chosen = logits.gather(1, token_ids.clamp(min=0)[:, None]) - sums
    return ChosenLogprobs(chosen[:, 0], ids, top - sums)
