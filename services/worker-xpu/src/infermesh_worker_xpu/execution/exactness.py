"""Tests at load that a runner gives the same bits for a prefix however it is split or batched.

We cannot know which kernels a CPU runs and where threads split a tensor, so we run the loaded model and compare.
"""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch, ModelRunner
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE

_log = logging.getLogger(__name__)

TOKENS = 41
"""Length of the tested prefix: more than one block, and a prime, so that no tile size divides it."""

CUTS: tuple[tuple[int, ...], ...] = ((1,) * TOKENS, (7, 33, 1), (32, 9), (2, 3, 5, 31))
COPIES = (2, 3, 5)
"""Batch sizes to test: so many sequences of the same tokens are decoded together."""


def ensure_exact(runner: ModelRunner) -> None:
    """Halves the number of CPU threads until the runner is exact. Raises FailedPrecondition if one thread is not.

    Overwrites the KV cache, so call it before the runner serves anything.
    """
    while (difference := find_difference(runner)) is not None:
        threads = torch.get_num_threads()
        if threads == 1:
            raise FailedPrecondition(
                f"INFERMESH_NUMERICS=exact does not hold for this model on {runner.info.device_name}: {difference}. "
                "Set INFERMESH_NUMERICS=fast or choose another model.",
                reason="NUMERICS_NOT_SUPPORTED",
            )
        _log.warning(
            "the model is not exact with this many threads; halving them",
            extra={"threads": threads, "difference": difference},
        )
        torch.set_num_threads(threads // 2)


def find_difference(runner: ModelRunner) -> str | None:
    """What changes the logits after a prefix, or None. Tests as many splits and batches as fit in the KV cache."""
    ids = np.random.default_rng(0).integers(0, runner.info.vocab_size, TOKENS)
    if runner.info.num_blocks * BLOCK_SIZE < TOKENS:
        return None
    expected = _logits(runner, ids, (TOKENS,), copies=1)
    for cut in CUTS:
        if not np.array_equal(_logits(runner, ids, cut, copies=1), expected):
            return f"a prompt computed in {len(cut)} runs (of {cut[:3]}… tokens) gives other logits than in one run"
    for copies in COPIES:
        if runner.info.num_blocks * BLOCK_SIZE < copies * (TOKENS + BLOCK_SIZE):
            break
        found = _logits(runner, ids, (TOKENS - 1, 1), copies=copies)
        if not np.array_equal(found, np.repeat(expected, copies, 0)):
            return f"a sequence in a batch of {copies} gives other logits than alone"
    return None


def _logits(runner: ModelRunner, ids: NDArray[np.int64], cut: tuple[int, ...], *, copies: int) -> NDArray[np.float32]:
    """Logits [copies, vocab] after the last token of `copies` sequences of the same tokens, fed in runs of `cut`."""
    each = -(-len(ids) // BLOCK_SIZE)
    done = 0
    for run in cut:
        done += run
        blocks = -(-done // BLOCK_SIZE)
        tables = [np.arange(blocks) + copy * each for copy in range(copies)]
        logits = runner.run(
            Batch(
                token_ids=np.tile(ids[done - run : done], copies),
                positions=np.tile(np.arange(done - run, done), copies),
                past_lens=np.full(copies, done - run, np.int32),
                begins=np.arange(copies + 1, dtype=np.int32) * run,
                blocks=np.concatenate(tables).astype(np.int32),
                block_begins=np.arange(copies + 1, dtype=np.int32) * blocks,
                max_context_tokens=done,
                rows=np.arange(1, copies + 1, dtype=np.int32) * run - 1,
                inverse_temperatures=np.ones(copies, np.float32),
            )
        )
    return np.stack([logits.row(copy) for copy in range(copies)])
