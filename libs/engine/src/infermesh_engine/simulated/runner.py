"""A runner without a device: it really stores KV, makes up logits, and takes as long as a device would."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import Batch, RunnerInfo
from infermesh_engine.simulated.logits import SimulatedLogits, Vocabulary, mix


class UnwrittenKvError(RuntimeError):
    """A batch read KV that was never computed; a real device would have returned nonsense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedOptions:
    """The simulated device. A step takes its prefill time plus, if it decodes, base + slope × sequences.

    Guesses take as long as tokens of a prompt.
    """

    prefill_tokens_per_s: float = 10_000.0
    base_itl_s: float = 0.007
    """Fixed time of a decode step."""
    slope_itl_s: float = 0.0005
    """Additional time of a decode step for each sequence in it."""
    num_blocks: int = 1024
    block_size: int = 32
    vocab_size: int = 512
    context_length: int = 8192
    device_kind: DeviceKind = "cpu"
    memory_total_bytes: int = 16 << 30
    """The memory that the device claims to have, all of it free."""
    weights_bytes: int = 0
    memory_bytes: int = 0
    """RunnerInfo.memory_bytes."""
    kv_shrinks: bool = False
    """RunnerInfo.kv_shrinks."""
    min_run_tokens: int = 1
    """RunnerInfo.min_run_tokens; a batch whose run is shorter, though there are past tokens, is refused."""
    checks_drafts: bool = False
    """RunnerInfo.checks_drafts."""


class VirtualClock:
    """A clock that advances only by `sleep`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class SimulatedRunner:
    """Stores KV in blocks as a device does, and derives logits from all it reads back through the block tables.

    So a wrong table, position or past length, or a lost block, changes the tokens, and reading KV that was never
    written raises UnwrittenKvError. Logits are exact: a prefix gives the same bits in any batch and any chunks.
    """

    def __init__(
        self,
        options: SimulatedOptions,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """Pass a VirtualClock and its `sleep` to run without real time passing."""
        self._options = options
        self._clock = clock
        self._sleep = sleep
        shape = (options.num_blocks, options.block_size)
        self._kv: NDArray[np.uint64] = np.zeros(shape, dtype=np.uint64)
        self._written: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        self._vocabulary = Vocabulary(options.vocab_size)

    @property
    def info(self) -> RunnerInfo:
        options = self._options
        return RunnerInfo(
            device_kind=options.device_kind,
            device_name="simulated",
            memory_total_bytes=options.memory_total_bytes,
            runtime="simulated",
            vocab_size=options.vocab_size,
            context_length=options.context_length,
            block_size=options.block_size,
            num_blocks=options.num_blocks,
            weights_bytes=options.weights_bytes,
            kv_cache_bytes=self._kv.nbytes,
            memory_bytes=options.memory_bytes,
            min_run_tokens=options.min_run_tokens,
            kv_shrinks=options.kv_shrinks,
            checks_drafts=options.checks_drafts,
        )

    def run(self, batch: Batch) -> SimulatedLogits:
        """Raises ValueError for a batch that breaks the contract, UnwrittenKvError for KV that was never written."""
        until_s = self._clock() + self._step_s(batch)
        _check(batch, self._options)
        rows, row = batch.rows.tolist(), 0
        digests = np.empty(len(rows), dtype=np.uint64)
        for index in range(len(batch.past_lens)):
            begin, end = int(batch.begins[index]), int(batch.begins[index + 1])
            context = self._store(batch, index, begin, end)
            while row < len(rows) and rows[row] < end:
                digests[row] = _digest(context[: len(context) - (end - 1 - rows[row])])
                row += 1
        logits = SimulatedLogits(self._vocabulary, digests, batch.inverse_temperatures)
        self._sleep(max(0.0, until_s - self._clock()))
        return logits

    def memory_free_bytes(self) -> int:
        return self._options.memory_total_bytes

    def release_blocks(self, blocks: range) -> None:
        """Forgets what the blocks hold: reading them again raises UnwrittenKvError."""
        self._written[blocks.start : blocks.stop] = False

    def close(self) -> None:
        self._written[:] = False

    def _store(self, batch: Batch, index: int, begin: int, end: int) -> NDArray[np.uint64]:
        """Stores the KV of one sequence's new tokens; returns [past + new], its whole context's KV as read back."""
        table = batch.blocks[batch.block_begins[index] : batch.block_begins[index + 1]]
        past = int(batch.past_lens[index])
        size = self._options.block_size
        read = self._kv[table].reshape(-1)
        if not self._written[table].reshape(-1)[:past].all():
            raise UnwrittenKvError(f"sequence {index} of the batch reads KV that was never written")
        # As in a model, a token's KV depends on all tokens before it; here it is a running sum of hashes.
        before = read[past - 1] if past else np.uint64(0)
        tokens = batch.token_ids[begin:end].astype(np.uint64) << np.uint64(32) | batch.positions[begin:end].astype(
            np.uint64
        )
        new = before + np.cumsum(mix(tokens), dtype=np.uint64)
        slots = np.arange(past, past + end - begin)
        self._kv[table[slots // size], slots % size] = new
        self._written[table[slots // size], slots % size] = True
        read[past : past + end - begin] = new
        return read[: past + end - begin]

    def _step_s(self, batch: Batch) -> float:
        new = np.diff(batch.begins)
        rows = np.diff(np.searchsorted(batch.rows, batch.begins))
        drafting = (rows == new) & (batch.past_lens > 0)
        decoding = (new <= self._options.min_run_tokens) | drafting
        decodes = int(decoding.sum())
        prefill_tokens = int(new[~decoding].sum() + (new[drafting] - 1).sum())
        decode_s = self._options.base_itl_s + self._options.slope_itl_s * decodes if decodes else 0.0
        return decode_s + prefill_tokens / self._options.prefill_tokens_per_s


def _digest(context: NDArray[np.uint64]) -> np.uint64:
    """Depends on every stored value and its position, so one wrong block changes it."""
    places = np.arange(len(context), dtype=np.uint64)
    return np.uint64(mix(context ^ (places * np.uint64(0x9E3779B97F4A7C15))).sum(dtype=np.uint64))


def _check(batch: Batch, options: SimulatedOptions) -> None:
    new = np.diff(batch.begins)
    blocks = np.diff(batch.block_begins)
    context = batch.past_lens + new
    firsts = batch.positions[batch.begins[:-1]]
    problems = {
        "a sequence has no new token": (new < 1).any(),
        "a run is too short": ((new < options.min_run_tokens) & (batch.past_lens > 0)).any(),
        "begins do not cover the tokens": batch.begins[0] != 0 or batch.begins[-1] != len(batch.token_ids),
        "a block table is not exactly as long as its tokens need": (blocks != -(-context // options.block_size)).any(),
        "block_begins do not cover the blocks": batch.block_begins[-1] != len(batch.blocks),
        "a block does not exist": ((batch.blocks < 0) | (batch.blocks >= options.num_blocks)).any(),
        "a token does not exist": ((batch.token_ids < 0) | (batch.token_ids >= options.vocab_size)).any(),
        "a position does not follow the past": (firsts != batch.past_lens).any(),
        "a context is too long": context.max() > options.context_length or context.max() != batch.max_context_tokens,
        "rows and inverse_temperatures differ in length": len(batch.rows) != len(batch.inverse_temperatures),
        "rows do not ascend": (np.diff(batch.rows) <= 0).any(),
    }
    wrong = [problem for problem, found in problems.items() if found]
    if wrong:
        raise ValueError("; ".join(wrong))
