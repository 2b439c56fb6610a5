"""How long silence is accepted, and what counts as slow."""

import math
from typing import Any

import pytest

from infermesh_router.policy.snapshot import EndpointSnapshot
from infermesh_router.relay.hedge import FirstTokenDelays
from infermesh_router.relay.patience import Patience

PATIENCE = Patience(first_token_min_s=10, first_token_max_s=100, stall_min_s=2, stall_max_s=60)


def endpoint(**fields: Any) -> EndpointSnapshot:
    rates: dict[str, Any] = {"prefill_tokens_per_s": 100.0, "decode_tokens_per_s": 128.0}
    return EndpointSnapshot(address="a", **(rates | fields))


def test_a_first_token_may_take_what_the_queue_and_the_prompt_need() -> None:
    assert PATIENCE.first_token_s(endpoint()) == 10
    assert PATIENCE.first_token_s(endpoint(waiting_tokens=500, sequences=2)) == 10 + 3 * (5 + 2)
    assert PATIENCE.first_token_s(endpoint(waiting_tokens=10_000)) == 100
    assert PATIENCE.first_token_s(endpoint(prefill_tokens_per_s=0.0)) == 100


def test_a_stall_is_measured_in_gaps_between_tokens() -> None:
    assert PATIENCE.stall_s(endpoint(), 0.01) == 2
    assert PATIENCE.stall_s(endpoint(), 0.1) == pytest.approx(5)
    assert PATIENCE.stall_s(endpoint(sequences=32), 0.1) == pytest.approx(12.5)
    assert PATIENCE.stall_s(endpoint(sequences=32, waiting_tokens=100), 0.1) == pytest.approx(15.5)
    assert PATIENCE.stall_s(endpoint(), 10) == 60
    assert PATIENCE.stall_s(endpoint(kv_cache_usage=0.99), 0.01) == 60
    assert PATIENCE.stall_s(endpoint(decode_tokens_per_s=0.0, prefill_tokens_per_s=0.0), 0.0) == 2


def test_slow_is_what_few_of_the_last_requests_were() -> None:
    delays = FirstTokenDelays()
    for milliseconds in range(19):
        delays.note(milliseconds / 1000)
    assert delays.slow_s() == math.inf
    delays.note(9.0)
    assert delays.slow_s() == 0.018
