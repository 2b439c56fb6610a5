"""Which models give way, and how many sequences may wait: pure decisions."""

import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.hosting.memory_plan import Holding, plan_eviction
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.models.footprint import Footprint, kv_token_bytes


def holding(name, memory_bytes, last_used_s=0.0, *, evictable=True):
    return Holding(name=name, memory_bytes=memory_bytes, evictable=evictable, last_used_s=last_used_s)


@pytest.mark.parametrize(
    ("needed_bytes", "evicted"), [(10, ()), (11, ("old",)), (40, ("old",)), (41, ("old", "new")), (60, ("old", "new"))]
)
def test_as_few_as_do_go_least_recently_used_first(needed_bytes, evicted):
    holdings = [holding("new", 20, 2.0), holding("old", 30, 1.0), holding("pinned", 40, 0.0, evictable=False)]
    assert plan_eviction("m", needed_bytes, 100, holdings) == evicted


def test_a_small_one_stays_when_a_larger_one_has_to_go_anyway():
    assert plan_eviction("m", 50, 60, [holding("small", 10, 1.0), holding("large", 50, 2.0)]) == ("large",)


def test_refusal_says_what_is_needed_and_what_could_be_free():
    with pytest.raises(ResourceExhausted, match="needs 61 bytes and 60 of 100") as caught:
        plan_eviction("m", 61, 100, [holding("a", 30), holding("b", 40, evictable=False)])
    assert caught.value.reason == "MODEL_DOES_NOT_FIT"
    assert caught.value.metadata == {"model": "m", "needed_bytes": "61", "free_bytes": "60"}


def test_models_that_hold_more_than_the_budget_leave_nothing():
    with pytest.raises(ResourceExhausted) as caught:
        plan_eviction("m", 1, 100, [holding("a", 300, evictable=False)])
    assert caught.value.metadata["free_bytes"] == "0"


def test_kv_cache_is_what_is_set_or_what_is_wanted_up_to_a_quarter():
    footprint = Footprint(base_bytes=100, kv_wanted_bytes=500)
    assert footprint.needed_bytes(4000, 0) == 600
    assert footprint.needed_bytes(1000, 0) == 350
    assert footprint.needed_bytes(1000, 7) == 107


def test_kv_bytes_of_a_token_come_from_the_configuration(tmp_path):
    config = tmp_path / "config.json"
    assert kv_token_bytes(tmp_path, 2, default=5) == 5
    config.write_text(
        '{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}'
    )
    assert kv_token_bytes(tmp_path, 2) == 2 * 30 * 3 * 64 * 2
    config.write_text('{"text_config": {"num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}}')
    assert kv_token_bytes(tmp_path, 1) == 2 * 2 * 4 * 8
    config.write_text("[]")
    assert kv_token_bytes(tmp_path, 1, default=5) == 5


BOUND = QueueBound(max_running=4, max_waiting=3)


@pytest.mark.parametrize(
    ("sequences", "model", "n"),
    [({}, "a", 4), ({}, "a", 7), ({"a": 4}, "a", 3), ({"a": 7}, "b", 4), ({"a": 3}, "a", 128), ({"a": 100}, "b", 4)],
)
def test_what_may_wait_is_taken(sequences, model, n):
    BOUND.check(sequences, model, n)


@pytest.mark.parametrize(
    ("sequences", "model", "n"),
    [({"a": 7}, "a", 1), ({"a": 4}, "a", 4), ({"a": 7}, "b", 5), ({"a": 4}, "a", 128), ({"a": 100}, "b", 5)],
)
def test_one_more_is_refused(sequences, model, n):
    with pytest.raises(ResourceExhausted) as caught:
        BOUND.check(sequences, model, n)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_s
