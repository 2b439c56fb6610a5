"""Owns the seam to runners that sample on their device: what they are told and what they give back. Knows no device.

A step of such a runner is `launch` (the forward pass), `sample`, `wait`. Only `wait` waits for the device, so the
engine launches batch n + 1, whose tokens are still on their way, before it waits for those of batch n:

    launch n+1 · wait n · emit n · sample n+1 · launch n+2 · wait n+1 · …

How batch n + 1 is to be sampled is said after the tokens of batch n are known, while its forward pass runs. So
penalties, grammars and bans are the host's, and nothing has to wait for them.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch, ModelRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRows:
    """Rows that are drawn at random; D of them, each array [D]."""

    rows: NDArray[np.int64]
    """Ascending."""
    inverse_temperatures: NDArray[np.float64]
    """Exactly float32 numbers."""
    top_k: NDArray[np.int64]
    """0 keeps all tokens."""
    top_p: NDArray[np.float64]
    """1 keeps all tokens; a share of what top_k keeps."""
    min_p: NDArray[np.float64]
    """0 keeps all tokens."""
    uniforms: NDArray[np.float64]
    """In [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitEdits:
    """Changes of logits, as lists over all rows of a batch; applied in the order of the fields, in float32.

    A pair of row and token id occurs at most once in each list.
    """

    bias_rows: NDArray[np.int32]
    """[B]"""
    bias_ids: NDArray[np.int32]
    """[B]"""
    bias: NDArray[np.float32]
    """[B], added."""
    seen_rows: NDArray[np.int32]
    """[P], rows of tokens that are penalised."""
    seen_ids: NDArray[np.int32]
    """[P]"""
    seen_counts: NDArray[np.float32]
    """[P], how often each is in the output; 0 for a token of the prompt alone."""
    penalties: NDArray[np.float32]
    """[R, 3]: repetition (divides positive logits, multiplies others; 1 does nothing), frequency (subtracted for each
    count) and presence (subtracted where there is a count)."""
    mask_rows: NDArray[np.int32]
    """[M], ascending: rows that only some tokens may come in."""
    masks: NDArray[np.uint8]
    """[M, ⌈vocab / 8⌉]: bit i & 7 of byte i >> 3 says whether token i may come; at least one may."""
    banned_rows: NDArray[np.int32]
    """[X]"""
    banned_ids: NDArray[np.int32]
    """[X], tokens that may not come; some other may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingBatch:
    """How the R rows of a batch are to be sampled, in its row order. What is not drawn is greedy, ties by smaller id.

    The token of a row does not depend on the other rows. Draws are as sampler.py's: tokens in descending order of
    probability, ties by smaller id, the filters' shortest prefix renormalised and inverted at the uniform number.
    """

    rows: int
    """R."""
    draws: DrawnRows | None = None
    edits: LogitEdits | None = None
    alternatives: NDArray[np.int32] | None = None
    """[R]: -1 where no log probabilities are asked for, else how many of the most probable tokens' ≥ 0. None: nobody
    asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRows:
    """What R rows got. Log probabilities are of temperature 1 and the logits before any edit."""

    token_ids: NDArray[np.int64]
    """[R]"""
    logprobs: NDArray[np.floating] | None = None
    """[R], of each token; meaningful where asked for; None when nobody asked."""
    top_ids: NDArray[np.int32] | None = None
    """[R, K], the most probable tokens, most probable first, ties by smaller id; K ≥ what any row asked for."""
    top_logprobs: NDArray[np.floating] | None = None
    """[R, K]"""


class Launch(Protocol):
    """A batch whose forward pass is on its way. Dropped without `wait`, it stays a batch that was computed or not."""

    def sample(self, sampling: SamplingBatch) -> None:
        """Queues the choice of its rows' tokens; once, before the next launch. Copies what it needs of `sampling`.

        Raises ResourceExhausted as `ModelRunner.run` does.
        """
        ...

    def wait(self) -> SampledRows:
        """The tokens, when they are here. Called once, after `sample`, and in the order of launches.

        Raises ResourceExhausted as `ModelRunner.run` does; then a launch that was made after this one is not used.
        """
        ...


@runtime_checkable
class SamplingRunner(ModelRunner, Protocol):
    """A runner that chooses tokens on its device; RunnerInfo.samples says whether it is to be used so.

    Batches are computed in the order of launches, so that a launch reads the KV that those before it wrote and may be
    given blocks that they still write to.
    """

    def launch(self, batch: Batch) -> Launch:
        """Queues the forward pass of a batch; at most one other is not waited for. Copies what it needs of `batch`.

        Raises ResourceExhausted as `run` does.
        """
        ...
