"""How fast a queue empties, as measured."""

import pytest

from infermesh_router.admission.drain_rate import DrainRate


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
