"""The KV cache of a loaded OpenVINO model gives memory back, and answers stay the same."""

from collections.abc import Callable

import numpy as np
import psutil

from infermesh_engine.runners.runner import Batch
from infermesh_engine.runners.shrinking_runner import ShrinkingRunner
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness

TOKENS = 256


def written(blocks: np.ndarray, block_size: int) -> Batch:
    """One sequence that fills these blocks."""
    tokens = len(blocks) * block_size
    return Batch(
        token_ids=np.arange(300, 300 + tokens),
        positions=np.arange(tokens),
        past_lens=np.zeros(1, np.int32),
        begins=np.array([0, tokens], np.int32),
        blocks=blocks.astype(np.int32),
        block_begins=np.array([0, len(blocks)], np.int32),
        max_context_tokens=tokens,
        rows=np.array([tokens - 1], np.int32),
        inverse_temperatures=np.ones(1, np.float32),
    )


def test_released_blocks_give_their_memory_back_and_can_be_used_again(fast_model: BuiltModel) -> None:
    runner = fast_model.runner
    assert isinstance(runner, ShrinkingRunner)
    info, process = runner.info, psutil.Process()
    last = np.arange(info.num_blocks - TOKENS // info.block_size, info.num_blocks)
    before = runner.run(written(last, info.block_size)).row(0).copy()
    resident = process.memory_info().rss
    runner.release_blocks(range(int(last[0]), info.num_blocks))
    freed = resident - process.memory_info().rss
    assert freed > 0.8 * len(last) * info.kv_cache_bytes / info.num_blocks
    assert np.array_equal(runner.run(written(last, info.block_size)).row(0), before)


def test_requests_say_the_same_after_the_cache_has_shrunk(
    exact_model: BuiltModel, harness_of: Callable[..., Harness], prompts: tuple[str, ...]
) -> None:
    harness = harness_of(exact_model, max_sequences=8, max_batched_tokens=128)
    requests = [harness.request(str(index), prompt, tokens=6) for index, prompt in enumerate(prompts[:4])]
    first = harness.tokens(*requests)
    info = exact_model.runner.info
    kept = harness.engine.limit_kv(0)
    assert kept < info.kv_cache_bytes / 2
    assert harness.engine.load().kv_cache_tokens >= info.context_length
    assert harness.tokens(*requests) == first
