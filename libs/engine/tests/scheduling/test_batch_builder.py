"""The arrays that a runner gets for a plan."""

from collections.abc import Callable

import numpy as np
import pytest

from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.scheduling.batch_builder import BatchBuilder, first_rows
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.plan import Draft, Plan, PrefillChunk
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner

Make = Callable[..., Sequence]


def builder(min_run_tokens: int = 1) -> BatchBuilder:
    info = SimulatedRunner(SimulatedOptions(block_size=4, min_run_tokens=min_run_tokens)).info
    return BatchBuilder(max_batched_tokens=32, max_sequences=8, info=info)


def sequences(make_sequence: Make) -> list[Sequence]:
    """One in decode with 5 of 6 tokens computed, one with 4 of 9, one with none of 2."""
    cache = KvCache(num_blocks=16, block_size=4, prefix_caching=False)
    made = []
    for tokens, computed, temperature in ((6, 5, 0.5), (9, 4, 0.0), (2, 0, 2.0)):
        prompt = tuple(range(10 * tokens, 11 * tokens))
        sequence = make_sequence(prompt, sampling=SamplingParams(temperature=temperature))
        cache.allocate(sequence, [])
        sequence.computed = computed
        made.append(sequence)
    return made


def test_decodes_then_chunks(make_sequence: Make) -> None:
    decode, part, whole = sequences(make_sequence)
    plan = Plan([decode], [PrefillChunk(part, 3), PrefillChunk(whole, 2)])
    batch = builder().build(plan, plan.sampled)
    assert batch.token_ids.tolist() == [65, 94, 95, 96, 20, 21]
    assert batch.positions.tolist() == [5, 4, 5, 6, 0, 1]
    assert batch.past_lens.tolist() == [5, 4, 0]
    assert batch.begins.tolist() == [0, 1, 4, 6]
    assert batch.block_begins.tolist() == [0, 2, 4, 5]
    tables = [decode.blocks.view, part.blocks.view[:2], whole.blocks.view]
    assert batch.blocks.tolist() == np.concatenate(tables).tolist()
    assert batch.max_context_tokens == 7
    assert batch.rows.tolist() == [0, 5]
    assert batch.inverse_temperatures.tolist() == [2.0, 0.5]
    dtypes = [a.dtype for a in (batch.token_ids, batch.past_lens, batch.begins, batch.blocks, batch.block_begins)]
    assert dtypes == [np.int64, np.int32, np.int32, np.int32, np.int32]


def test_only_decodes_equals_the_general_path(make_sequence: Make) -> None:
    decode, part, _ = sequences(make_sequence)
    part.computed = 8
    plan = Plan([decode, part], [])
    fast = builder().build(plan, plan.sampled)
    general = builder().build(Plan([], [PrefillChunk(decode, 1), PrefillChunk(part, 1)]), [decode, part])
    for field in ("token_ids", "positions", "past_lens", "begins", "blocks", "block_begins", "rows"):
        assert getattr(fast, field).tolist() == getattr(general, field).tolist()
    assert fast.max_context_tokens == general.max_context_tokens == 9


def test_runs_shorter_than_the_runner_wants_feed_the_last_tokens_again(make_sequence: Make) -> None:
    decode, part, whole = sequences(make_sequence)
    plan = Plan([decode], [PrefillChunk(part, 1), PrefillChunk(whole, 1)])
    batch = builder(min_run_tokens=2).build(plan, plan.sampled)
    assert batch.token_ids.tolist() == [64, 65, 93, 94, 20]
    assert batch.positions.tolist() == [4, 5, 3, 4, 0]
    assert batch.past_lens.tolist() == [4, 3, 0]
    assert batch.begins.tolist() == [0, 2, 4, 5]
    assert batch.rows.tolist() == [1]


@pytest.mark.parametrize("least", [1, 2])
def test_a_draft_has_a_row_for_each_token(make_sequence: Make, least: int) -> None:
    draft, decode, whole = sequences(make_sequence)
    decode.computed = 8
    plan = Plan([decode], [PrefillChunk(whole, 2)], [Draft(draft, (7, 8))])
    assert plan.sampled == [decode, draft, whole]
    batch = builder(min_run_tokens=least).build(plan, plan.sampled)
    again = least - 1  # tokens of the decode that are fed again
    assert batch.token_ids.tolist() == [*[97, 98][-least:], 65, 7, 8, 20, 21]
    assert batch.positions.tolist() == [*[7, 8][-least:], 5, 6, 7, 0, 1]
    assert batch.past_lens.tolist() == [8 - again, 5, 0]
    assert batch.begins.tolist() == [0, least, least + 3, least + 5]
    assert batch.block_begins.tolist() == [0, 3, 5, 6]
    assert batch.rows.tolist() == [again, least, least + 1, least + 2, least + 4]
    assert batch.inverse_temperatures.tolist() == [1.0, 2.0, 2.0, 2.0, 0.5]
    assert first_rows(plan, 3).tolist() == [0, 1, 4]
    assert batch.max_context_tokens == 9
