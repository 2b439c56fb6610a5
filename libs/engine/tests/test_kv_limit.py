"""The KV cache shrinks and grows while requests run, without any change of what they say."""

import ctypes
import mmap

import numpy as np
import psutil
import pytest
from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Finished
from infermesh_engine.requests.request import GenerationRequest, StopConditions
from infermesh_engine.runners.pages import release_pages
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock

BLOCKS, BLOCK, CONTEXT = 64, 4, 40
BLOCK_BYTES = BLOCK * 8
LEAST = CONTEXT // BLOCK


def make_engine(tokenizer: Tokenizer, *, shrinks: bool = True, blocks: int = BLOCKS) -> Engine:
    clock = VirtualClock()
    options = SimulatedOptions(
        num_blocks=blocks, block_size=BLOCK, vocab_size=257, context_length=CONTEXT, kv_shrinks=shrinks
    )
    runner = SimulatedRunner(options, clock=clock, sleep=clock.sleep)
    return Engine(runner, tokenizer, frozenset({256}), EngineConfig(max_sequences=8, max_batched_tokens=16), clock)


def run(engine: Engine, limits: dict[int, int]) -> tuple[dict[str, list[int]], int]:
    """Runs eight requests of 36 tokens, and sets the limit (in blocks) after some steps; also returns preemptions."""
    for index in range(8):
        stop = StopConditions(max_tokens=30, ignore_eos=True)
        prompt = (1, 2, 3, 4, 5, index)
        engine.submit(GenerationRequest(request_id=str(index), prompt_token_ids=prompt, seed=1, stop=stop))
    tokens: dict[str, list[int]] = {str(index): [] for index in range(8)}
    finished = step = 0
    while engine.has_work:
        for output in engine.step():
            if isinstance(output, Delta):
                tokens[output.request_id] += output.token_ids
            finished += isinstance(output, Finished)
        step += 1
        if step in limits:
            engine.limit_kv(limits[step] * BLOCK_BYTES)
    assert finished == 8
    return tokens, engine.load().preemptions


@pytest.mark.parametrize("limits", [{8: 12}, {8: LEAST, 30: BLOCKS}, {2: 40, 4: 30, 6: 20, 20: 50, 25: 11}])
def test_requests_say_the_same_while_the_cache_shrinks_and_grows(
    byte_tokenizer: Tokenizer, limits: dict[int, int]
) -> None:
    undisturbed, _ = run(make_engine(byte_tokenizer), {})
    engine = make_engine(byte_tokenizer)
    tokens, preemptions = run(engine, limits)
    assert tokens == undisturbed
    assert preemptions > 0
    load = engine.load()
    assert (load.kv_cache_tokens, load.kv_cache_usage) == (list(limits.values())[-1] * BLOCK, 0.0)


def test_one_whole_context_always_stays(byte_tokenizer: Tokenizer) -> None:
    engine = make_engine(byte_tokenizer)
    assert engine.limit_kv(0) == LEAST * BLOCK_BYTES
    assert engine.limit_kv(1 << 40) == BLOCKS * BLOCK_BYTES
    small = make_engine(byte_tokenizer, blocks=LEAST - 3)
    assert small.limit_kv(0) == (LEAST - 3) * BLOCK_BYTES


def test_a_runner_that_cannot_shrink_keeps_all(byte_tokenizer: Tokenizer) -> None:
    engine = make_engine(byte_tokenizer, shrinks=False)
    assert engine.limit_kv(0) == BLOCKS * BLOCK_BYTES
    assert engine.load().kv_cache_tokens == BLOCKS * BLOCK


def test_released_pages_are_no_longer_resident() -> None:
    array = np.ones(64 << 20, np.uint8)
    process = psutil.Process()
    before = process.memory_info().rss
    release_pages(array.ctypes.data + 100, array.nbytes - 200)
    assert process.memory_info().rss < before - (60 << 20)
    assert array[:100].all()
    assert array[-100:].all()
    assert not array[mmap.PAGESIZE + 100 : -mmap.PAGESIZE - 100].any()


def test_memory_that_the_system_does_not_take_is_an_error() -> None:
    with pytest.raises(OSError, match="no memory pages"):
        release_pages(ctypes.c_size_t(-(1 << 40)).value, 1 << 20)
