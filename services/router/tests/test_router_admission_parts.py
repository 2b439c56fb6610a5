"""The small parts of admission: the rate a queue drains at, and the router's door."""

import asyncio

import pytest

from infermesh_router.admission.drain_rate import DrainRate
from infermesh_router.admission.gate import Gate
from infermesh_router.admission.model_queue import cost_tokens
from infermesh_router.fleet.changes import Changes
from infermesh_router.policy.snapshot import EXPECTED_OUTPUT_TOKENS, Wanted
from infermesh_runtime.errors import FailedPrecondition, Unavailable


def test_a_rate_is_not_told_before_it_is_measured() -> None:
    rate = DrainRate()
    rate.begin(100.0)
    for now_s in (101.0, 102.0, 103.0):
        rate.note(now_s)
    assert rate.time_for(10, 103.0) is None
    assert rate.retry_after_s(10, 103.0) == 1.0
    rate.note(104.0)
    assert rate.per_s(104.0) == pytest.approx(1.0)
    assert rate.time_for(10, 104.0) == pytest.approx(10.0)


def test_a_rate_falls_while_nothing_is_served_and_is_kept_for_the_next_time() -> None:
    rate = DrainRate()
    rate.begin(0.0)
    for served in range(100):
        rate.note(served / 10)
    assert rate.per_s(9.9) == pytest.approx(10, rel=0.05)
    assert rate.per_s(60.0) < 1.2
    rate.begin(1000.0)  # an idle time in between is no slowness
    assert rate.time_for(100, 1000.0) is None
    assert rate.retry_after_s(100, 1000.0) == pytest.approx(10, rel=0.05)
    assert rate.retry_after_s(10**6, 1000.0) == 120.0


def test_what_a_request_counts_for() -> None:
    assert cost_tokens(Wanted(prompt_tokens=100, max_tokens=8, sequences=2)) == 116
    assert cost_tokens(Wanted(prompt_tokens=100)) == 100 + EXPECTED_OUTPUT_TOKENS
    assert cost_tokens(Wanted(max_tokens=10**6)) == EXPECTED_OUTPUT_TOKENS


async def test_a_gate_that_drains_refuses_newcomers_and_waits_for_those_inside() -> None:
    gate = Gate(Changes())
    inside = gate.entered()
    inside.__enter__()
    draining = asyncio.create_task(gate.drain())
    await asyncio.sleep(0)
    assert gate.draining
    with pytest.raises(Unavailable) as caught, gate.entered():
        pass
    assert caught.value.reason == "ROUTER_DRAINING"
    inside.__exit__(None, None, None)
    await draining
    gate.resume()
    with gate.entered():
        assert gate.running == 1


async def test_a_drain_that_is_called_off_says_so() -> None:
    gate = Gate(Changes())
    with gate.entered():
        draining = asyncio.create_task(gate.drain())
        await asyncio.sleep(0)
        gate.resume()
        with pytest.raises(FailedPrecondition):
            await draining
    assert not gate.draining
