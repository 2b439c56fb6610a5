"""Owns the seam between the engine and a device: what a runner is told and what it gives back. Knows no device."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

DeviceKind = Literal["cpu", "xpu", "cuda"]

CANDIDATES = 64
"""Most probable tokens that a runner returns with each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerInfo:
    """What a loaded runner is; constant while it lives."""

    device_kind: DeviceKind
    device_name: str
    memory_total_bytes: int
    runtime: str
    """What runs the model, for example "openvino 2026.4.1"."""
    vocab_size: int
    context_length: int
    """Longest prompt and output together, in tokens."""
    block_size: int
    """Tokens a KV block holds."""
    num_blocks: int
    """KV blocks it owns, numbered from 0."""
    weights_bytes: int
    kv_cache_bytes: int = 0
    """Memory set aside for the KV blocks, touched or not; 0: not known."""
    memory_bytes: int = 0
    """Device memory it holds in all; 0: not known, and estimated from the process and the two above."""
    min_run_tokens: int = 1
    """Fewest new tokens of a sequence in a batch; the engine feeds earlier ones again, where there are any, to reach
    it. Some devices compute a run of one token in another order than a longer one."""
    samples: bool = False
    """Whether the runner is a `launch.SamplingRunner` and is to be used as one: it samples on its device, and is given
    the next batch while one is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's work: for each of S sequences, a run of new tokens whose KV is computed and stored.

    A sequence in decode has one new token, a prefill chunk has many. T is the sum of new tokens, R the rows whose
    logits are needed (a prefill chunk that does not reach the prompt's end needs none).
    """

    token_ids: NDArray[np.int64]
    """[T], the new tokens, sequence after sequence. -1 - r, which only a `launch.SamplingRunner` is given, is the token
    that row r of the launch before this one gets, which may not be known to the host yet."""
    positions: NDArray[np.int64]
    """[T], position of each in its sequence."""
    past_lens: NDArray[np.int32]
    """[S], tokens of each sequence whose KV is already in its blocks."""
    begins: NDArray[np.int32]
    """[S + 1], where each sequence's new tokens begin in token_ids; the last is T."""
    blocks: NDArray[np.int32]
    """[B], block tables, sequence after sequence, exactly as long as past and new tokens need."""
    block_begins: NDArray[np.int32]
    """[S + 1], where each sequence's table begins in blocks; the last is B."""
    max_context_tokens: int
    """Largest past + new over the sequences."""
    rows: NDArray[np.int32]
    """[R], indices into token_ids whose logits are needed, ascending."""
    inverse_temperatures: NDArray[np.float32]
    """[R], 1 / temperature of each row; 1 for greedy rows."""


class Logits(Protocol):
    """Logits of the R rows of a batch, in its row order. Valid until the runner's next run."""

    @property
    def top_ids(self) -> NDArray[np.int32]:
        """[R, K], the K = min(CANDIDATES, vocab) largest logits' token ids, largest first, ties by smaller id."""
        ...

    @property
    def top_logits(self) -> NDArray[np.float32]:
        """[R, K], their logits, unscaled."""
        ...

    @property
    def logsumexp(self) -> NDArray[np.float32]:
        """[R], log Σ exp(logit) over the vocabulary."""
        ...

    @property
    def scaled_logsumexp(self) -> NDArray[np.float32]:
        """[R], log Σ exp(logit × inverse_temperature) over the vocabulary."""
        ...

    def row(self, index: int) -> NDArray[np.float32]:
        """[vocab], all logits of one row, unscaled. A view where the runner can give one: do not write to it."""
        ...


class ModelRunner(Protocol):
    """Loads weights, owns KV memory, and turns batches into logits. One thread uses it."""

    @property
    def info(self) -> RunnerInfo: ...

    def run(self, batch: Batch) -> Logits:
        """Computes and stores the new tokens' KV and returns the logits of batch.rows.

        Raises infermesh_runtime.errors.ResourceExhausted when the device's memory cannot hold this batch; nothing of
        it counts as computed then. Any other exception means the runner cannot be used any more.
        """
        ...

    def memory_free_bytes(self) -> int:
        """Memory of the device that is free now."""
        ...

    def close(self) -> None:
        """Frees the device. The runner is not used after it."""
        ...
