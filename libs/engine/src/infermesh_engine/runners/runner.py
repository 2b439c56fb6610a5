"""The interface of a model runner: what the engine tells it and what it gives back."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.images import ImageRows

CANDIDATES = 64
"""How many of the most probable tokens a runner returns with each row."""
SCORED_ROWS = 128
"""Most rows of a batch beyond one for each sequence: tokens of a prompt that one step scores, or guesses that it
checks. The logits of each take as much memory as the vocabulary is large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerInfo:
    """Facts about a loaded runner; they do not change while it lives."""

    device_kind: DeviceKind
    device_name: str
    memory_total_bytes: int
    runtime: str
    """What runs the model, for example "openvino 2026.4.1"."""
    vocab_size: int
    context_length: int
    """Longest prompt and output together, in tokens."""
    block_size: int
    """Tokens in a KV block."""
    num_blocks: int
    """KV blocks the runner has, numbered from 0."""
    weights_bytes: int
    kv_cache_bytes: int = 0
    """Memory reserved for the KV blocks, touched or not; 0: unknown."""
    memory_bytes: int = 0
    """All device memory it holds; 0: unknown, so it is estimated from the process and the two above."""
    min_run_tokens: int = 1
    """Fewest new tokens of a sequence in a batch; the engine feeds earlier tokens again to reach it. Some devices sum
    in another order for a run of one token than for a longer run."""
    kv_shrinks: bool = False
    """Whether it is a `shrinking_runner.ShrinkingRunner`. KV blocks that were never used take no memory then."""
    checks_drafts: bool = False
    """Whether a batch may ask for the logits of every token of a sequence's run, after which the engine may overwrite
    the run's KV from any token on."""
    samples: bool = False
    """Whether to use the runner as a `sampling_runner.SamplingRunner`: it samples on its device, and gets the next
    batch while one is running."""
    takes_images: bool = False
    """Whether prompts may have images."""
    whole_images: bool = False
    """Whether the positions of an image see each other, so that each span of them must be computed in one batch."""
    image_rope: bool = False
    """Whether it needs Batch.rope."""

    @property
    def served_context_length(self) -> int:
        """Longest prompt and output together that the KV cache can hold too, in tokens."""
        return min(self.context_length, self.num_blocks * self.block_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's work: for each of S sequences, a run of new tokens whose KV is computed and stored.

    A sequence in decode has one new token, a draft (if RunnerInfo.checks_drafts) a few, a prefill chunk many. T is the
    sum of new tokens. R is the number of rows whose logits are needed; a prefill chunk that does not reach the prompt's
    end needs none, except that the last chunk of a batch may need those of up to SCORED_ROWS of its tokens. A draft
    needs those of all its tokens, at most SCORED_ROWS in a batch beyond one for each sequence; no batch has both.
    """

    token_ids: NDArray[np.int64]
    """[T], the new tokens, sequence after sequence. -1 - r stands for the token that row r of the previous launch gets,
    which the host may not know yet; only a `sampling_runner.SamplingRunner` is given it."""
    positions: NDArray[np.int64]
    """[T], position of each in its sequence."""
    past_lens: NDArray[np.int32]
    """[S], how many tokens of each sequence have their KV in its blocks already."""
    begins: NDArray[np.int32]
    """[S + 1], where each sequence's new tokens begin in token_ids; the last is T."""
    blocks: NDArray[np.int32]
    """[B], block tables, sequence after sequence, each exactly as long as its past and new tokens need."""
    block_begins: NDArray[np.int32]
    """[S + 1], where each sequence's table begins in blocks; the last is B."""
    max_context_tokens: int
    """Largest past + new over the sequences."""
    rows: NDArray[np.int32]
    """[R], indices into token_ids whose logits are needed, ascending."""
    inverse_temperatures: NDArray[np.float32]
    """[R], 1 / temperature of each row; 1 for greedy rows."""
    images: tuple[ImageRows, ...] = ()
    """The tokens whose embeddings are replaced by features of images, in the order of the tokens."""
    rope: NDArray[np.int64] | None = None
    """[3, T], the rotary positions of each token in time, row and column; None: all are `positions`."""


class Logits(Protocol):
    """Logits of the R rows of a batch, in the batch's row order. Valid until the runner's next run."""

    @property
    def top_ids(self) -> NDArray[np.int32]:
        """[R, K], token ids of the K = min(CANDIDATES, vocab) largest logits, largest first, ties by smaller id."""
        ...

    @property
    def top_logits(self) -> NDArray[np.float32]:
        """[R, K], the logits of top_ids, unscaled. The first of a row is not finite if any logit of the row is NaN or
        positive infinity, or all are negative infinity: the model is broken."""
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
        """[vocab], all logits of one row, unscaled. It may be a view: do not write to it."""
        ...


class ModelRunner(Protocol):
    """Holds the weights and the KV memory, and turns batches into logits. It is used from one thread."""

    @property
    def info(self) -> RunnerInfo: ...

    def run(self, batch: Batch) -> Logits:
        """Computes and stores the new tokens' KV and returns the logits of batch.rows.

        Raises infermesh_runtime.errors.ResourceExhausted when the batch does not fit in the device's memory; nothing of
        it counts as computed then. After any other exception the runner cannot be used any more.
        """
        ...

    def memory_free_bytes(self) -> int:
        """Free memory of the device now."""
        ...

    def close(self) -> None:
        """Frees the device. The runner must not be used afterwards."""
        ...
