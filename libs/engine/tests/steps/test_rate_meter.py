"""Rates over the last seconds of work."""

import pytest

from infermesh_engine.simulated.runner import VirtualClock
from infermesh_engine.steps.rate_meter import Rate, RateMeter


def test_no_rate_before_the_first_work() -> None:
    meter = RateMeter(VirtualClock())
    assert meter.prefill.per_s == 0
    assert meter.decode.per_s == 0


def test_rates_of_steps_and_idle_time_does_not_count() -> None:
    clock = VirtualClock()
    meter = RateMeter(clock)
    for _ in range(10):
        meter.begin()
        clock.sleep(0.5)
        meter.end(prefill_tokens=100, decode_tokens=0)
        clock.sleep(100)
        meter.begin()
        clock.sleep(0.1)
        meter.end(prefill_tokens=0, decode_tokens=8)
    assert meter.prefill.per_s == pytest.approx(200)
    assert meter.decode.per_s == pytest.approx(80)


def test_recent_work_counts_more() -> None:
    rate = Rate(window_s=5)
    for _ in range(100):
        rate.add(10, 1.0)
    assert rate.per_s == pytest.approx(10)
    for _ in range(10):
        rate.add(100, 1.0)
    assert 80 < rate.per_s < 100


def test_steps_that_take_no_time_do_not_divide_by_zero() -> None:
    rate = Rate(window_s=5)
    rate.add(10, 0.0)
    assert rate.per_s == 0
