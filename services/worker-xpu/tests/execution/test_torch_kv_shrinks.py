"""On the CPU, blocks of the torch runner's KV cache give their memory back and can be used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from infermesh_engine.runners.runner import Batch
from infermesh_engine.runners.shrinking_runner import ShrinkingRunner

if TYPE_CHECKING:
    from conftest import MakeRunner


def step(block: int, token_ids: list[int], past: int) -> Batch:
    """The next tokens of the one sequence in this block, with the logits of the last one."""
    tokens = len(token_ids)
    return Batch(
        token_ids=np.array(token_ids, np.int64),
        positions=np.arange(past, past + tokens),
        past_lens=np.array([past], np.int32),
        begins=np.array([0, tokens], np.int32),
        blocks=np.array([block], np.int32),
        block_begins=np.array([0, 1], np.int32),
        max_context_tokens=past + tokens,
        rows=np.array([tokens - 1], np.int32),
        inverse_temperatures=np.ones(1, np.float32),
    )


def test_released_blocks_are_empty_and_can_be_used_again(tiny_runner: MakeRunner) -> None:
    runner = tiny_runner("llama")
    info = runner.info
    assert info.kv_shrinks
    assert isinstance(runner, ShrinkingRunner)
    block, prompt = info.num_blocks // 2, [5, 6, 7, 8]
    first = runner.run(step(block, prompt, 0)).row(0).copy()
    following = runner.run(step(block, [9], 4)).row(0).copy()
    runner.release_blocks(range(info.num_blocks))
    emptied = runner.run(step(block, [9], 4)).row(0).copy()
    assert not np.allclose(emptied, following)
    assert np.array_equal(runner.run(step(block, prompt, 0)).row(0), first)
    assert np.array_equal(runner.run(step(block, [9], 4)).row(0), following)
    runner.close()
