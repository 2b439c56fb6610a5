"""How long silence is accepted, and what counts as slow."""

import math
from typing import Any

import pytest

from infermesh_router.policy.model_load import ModelLoad
from infermesh_router.policy.snapshot import EndpointSnapshot
from infermesh_router.relay.patience import Patience
from infermesh_router.relay.retrying.hedge import FirstTokenDelays

PATIENCE = Patience(first_token_min_s=10, first_token_max_s=100, stall_min_s=2, stall_max_s=60)


def endpoint(**fields: Any) -> EndpointSnapshot:
    rates: dict[str, Any] = {"prefill_tokens_per_s": 100.0, "decode_tokens_per_s": 128.0}
    return EndpointSnapshot(address="a", total=ModelLoad(**(rates | fields)))


def test_a_first_token_may_take_what_the_queue_and_the_prompt_need() -> None:
    assert PATIENCE.first_token_s(endpoint(), "m") == 10
    assert PATIENCE.first_token_s(endpoint(waiting_tokens=500, sequences=2), "m") == 10 + 3 * (5 + 2)
    assert PATIENCE.first_token_s(endpoint(waiting_tokens=10_000), "m") == 100
    assert PATIENCE.first_token_s(endpoint(prefill_tokens_per_s=0.0), "m") == 100


def test_a_stall_is_measured_in_gaps_between_tokens() -> None:
    assert PATIENCE.stall_s(endpoint(), "m", 0.01) == 2
    assert PATIENCE.stall_s(endpoint(), "m", 0.1) == pytest.approx(5)
    assert PATIENCE.stall_s(endpoint(sequences=32), "m", 0.1) == pytest.approx(12.5)
    assert PATIENCE.stall_s(endpoint(sequences=32, waiting_tokens=100), "m", 0.1) == pytest.approx(15.5)
    assert PATIENCE.stall_s(endpoint(), "m", 10) == 60
    assert PATIENCE.stall_s(endpoint(kv_cache_usage=0.99), "m", 0.01) == 60
    assert PATIENCE.stall_s(endpoint(decode_tokens_per_s=0.0, prefill_tokens_per_s=0.0), "m", 0.0) == 2


def test_slow_is_what_few_of_the_last_requests_to_the_model_were() -> None:
    delays = FirstTokenDelays()
    for milliseconds in range(19):
        delays.note("m", milliseconds / 1000)
    assert delays.slow_s("m") == math.inf
    delays.note("m", 9.0)
    for _ in range(20):
        delays.note("slow", 30.0)
    assert delays.slow_s("m") == 0.018
    assert delays.slow_s("slow") == 30.0


def test_delays_of_models_used_long_ago_are_forgotten() -> None:
    delays = FirstTokenDelays(max_models=2)
    for model in ("a", "b", "c"):
        for _ in range(20):
            delays.note(model, 1.0)
    assert [delays.slow_s(model) for model in ("a", "b", "c")] == [math.inf, 1.0, 1.0]
