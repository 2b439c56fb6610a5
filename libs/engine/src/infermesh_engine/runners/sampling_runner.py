"""The interface of runners that sample on their device: what they are told and what they give back.

A step of such a runner is `launch` (queues the forward pass), `sample`, `wait`. Only `wait` waits for the device, so
the engine launches batch n + 1 before it waits for the tokens of batch n:

    launch n+1 · wait n · emit n · sample n+1 · launch n+2 · wait n+1 · …

The engine says how to sample batch n + 1 once it knows the tokens of batch n, while the forward pass of n + 1 runs. So
penalties, grammars and bans stay on the host, and the device does not wait for them.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch, ModelRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRows:
    """The D rows whose tokens are drawn at random; each array is [D]."""

    rows: NDArray[np.int64]
    """Ascending."""
    inverse_temperatures: NDArray[np.float64]
    """Each is exactly a float32 number."""
    top_k: NDArray[np.int64]
    """0 keeps all tokens."""
    top_p: NDArray[np.float64]
    """1 keeps all tokens; a share of the probability that top_k keeps."""
    min_p: NDArray[np.float64]
    """0 keeps all tokens."""
    uniforms: NDArray[np.float64]
    """In [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitEdits:
    """Changes to logits, as lists over all rows of a batch; applied in the order of the fields, in float32.

    Each pair of row and token id occurs at most once in a list.
    """

    bias_rows: NDArray[np.int32]
    """[B]"""
    bias_ids: NDArray[np.int32]
    """[B]"""
    bias: NDArray[np.float32]
    """[B], added."""
    seen_rows: NDArray[np.int32]
    """[P], rows of the penalised tokens."""
    seen_ids: NDArray[np.int32]
    """[P]"""
    seen_counts: NDArray[np.float32]
    """[P], how often each is in the output; 0 for a token that is only in the prompt."""
    penalties: NDArray[np.float32]
    """[R, 3]: repetition (divides positive logits, multiplies others; 1 changes nothing), frequency (subtracted once
    for each count) and presence (subtracted if there is a count)."""
    mask_rows: NDArray[np.int32]
    """[M], ascending: rows in which only some tokens are allowed."""
    masks: NDArray[np.uint8]
    """[M, ⌈vocab / 8⌉]: bit i & 7 of byte i >> 3 says whether token i is allowed; at least one is."""
    banned_rows: NDArray[np.int32]
    """[X]"""
    banned_ids: NDArray[np.int32]
    """[X], tokens that are not allowed; at least one other is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingBatch:
    """How to sample the R rows of a batch. Rows that are not drawn are greedy, ties by smaller id.

    A row's token does not depend on the other rows. A draw works as in `sampling.inversion`: tokens in descending order
    of probability, ties by smaller id; the shortest prefix that the filters keep is renormalised, and its cumulative
    distribution inverted at the uniform number.
    """

    rows: int
    """R."""
    draws: DrawnRows | None = None
    edits: LogitEdits | None = None
    alternatives: NDArray[np.int32] | None = None
    """[R]: for how many of the most probable tokens to return log probabilities; -1 for a row that wants none at all.
    None: no row does."""


NO_TOKEN = -1
"""Stands in SampledRows for the token of a row whose logits are not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRows:
    """The tokens of R rows. Log probabilities are at temperature 1, from the logits before any edit."""

    token_ids: NDArray[np.int64]
    """[R]; NO_TOKEN in a row whose largest logit, before any edit, is NaN or infinite. To the next launch such a row
    may give any token, because its sequence ends."""
    logprobs: NDArray[np.floating] | None = None
    """[R], of each token; meaningful in rows that asked for them. None when no row did."""
    top_ids: NDArray[np.int32] | None = None
    """[R, K], the most probable tokens, most probable first, ties by smaller id; K ≥ what any row asked for."""
    top_logprobs: NDArray[np.floating] | None = None
    """[R, K]"""


class Launch(Protocol):
    """A batch whose forward pass is queued. If it is dropped without `wait`, it may or may not have been computed."""

    def sample(self, sampling: SamplingBatch) -> None:
        """Queues the sampling of its rows. Called once, before the next launch. Copies what it needs of `sampling`.

        Raises ResourceExhausted as `ModelRunner.run` does.
        """
        ...

    def wait(self) -> SampledRows:
        """Waits for the tokens and returns them. Called once, after `sample`, in the order of the launches.

        Raises ResourceExhausted as `ModelRunner.run` does; then the launch made after this one must not be used.
        """
        ...


@runtime_checkable
class SamplingRunner(ModelRunner, Protocol):
    """A runner that samples on its device; RunnerInfo.samples says whether to use it this way.

    Batches are computed in the order of launches, so a launch reads the KV that earlier ones wrote, and may be given
    blocks that they still write to.
    """

    def launch(self, batch: Batch) -> Launch:
        """Queues the forward pass of a batch. At most one earlier launch is still running. Copies what it needs of
        `batch`.

        Raises ResourceExhausted as `run` does.
        """
        ...
