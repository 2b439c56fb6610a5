"""What is measured of requests."""

import pytest

from infermesh_engine.requests.output import EngineLoad
from infermesh_worker.engine_client.request_meter import Histogram, RequestMeter, RequestTiming


def test_counts_go_on_when_the_engine_starts_again() -> None:
    meter = RequestMeter()
    meter.load_came(EngineLoad(preemptions=3, looked_up_tokens=20, cached_tokens=10))
    meter.engine_ended()
    meter.load_came(EngineLoad(preemptions=1, looked_up_tokens=5, cached_tokens=4))
    assert (meter.preemptions, meter.looked_up_tokens, meter.cached_tokens) == (4, 25, 14)


def test_tokens_of_one_step_are_one_gap() -> None:
    meter, timing = RequestMeter(), RequestTiming(0.0, 5)
    for now_s in (1.0, 1.0, 1.5, 1.5, 2.0):
        meter.tokens_came(timing, 1, now_s)
    assert (meter.ttft_s.count, meter.itl_s.count, meter.generation_tokens) == (1, 2, 5)
    assert meter.itl_s.total == pytest.approx(1.0)
    meter.request_finished(timing, 2.5)
    assert meter.tpot_s.count == 1
    assert meter.tpot_s.total == pytest.approx(0.5)
    assert meter.e2e_s.total == pytest.approx(2.5)


def test_histogram_counts_up_to_and_with_its_bounds() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 3):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
