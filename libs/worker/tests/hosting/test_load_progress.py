"""How far the load of a model is, and how long it still takes."""

import pytest

from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_worker.engine_client.engine_status import EngineStatus, LoadFailure
from infermesh_worker.hosting.load_progress import LoadMeter, LoadProgress, LoadTimes, estimate

INFO = SimulatedRunner(SimulatedOptions(vocab_size=259, context_length=99)).info


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_progress_grows_with_time_and_never_says_that_a_load_is_done() -> None:
    assert estimate(0.0, 10.0) == LoadProgress(0.0, 10.0)
    assert estimate(5.0, 10.0) == LoadProgress(0.495, 5.0)
    assert estimate(10.0, 10.0) == estimate(99.0, 10.0) == LoadProgress(0.99, None)


def test_a_model_takes_as_long_as_its_last_load() -> None:
    times, clock = LoadTimes(), Clock()
    meter = LoadMeter(times, "m", 1000, clock)
    clock.now_s = 7.0
    meter.heard(EngineStatus(info=INFO))
    assert meter.progress is None
    clock.now_s = 50.0
    meter.heard(EngineStatus(info=INFO))  # it is ready still: not a load
    assert times.expected_s("m", 1000) == 7.0
    again = LoadMeter(times, "m", 1000, clock)
    clock.now_s = 53.5
    assert again.progress == LoadProgress(0.495, 3.5)


def test_a_model_that_was_never_loaded_takes_as_long_as_its_size_at_the_speed_of_another() -> None:
    times = LoadTimes()
    before_s = times.expected_s("large", 1 << 30)
    assert before_s > times.expected_s("small", 1 << 20) > 0
    times.note("other", 1 << 30, 22.0)
    assert times.expected_s("large", 1 << 31) == pytest.approx(2 + 2 * 20.0)


def test_a_load_that_fails_tells_nothing_about_the_next_one() -> None:
    times, clock = LoadTimes(), Clock()
    before_s = times.expected_s("m", 1000)
    meter = LoadMeter(times, "m", 1000, clock)
    clock.now_s = 99.0
    meter.heard(EngineStatus(load_failure=LoadFailure(message="no", code=0, reason="")))
    assert meter.progress is None
    meter.heard(EngineStatus(info=INFO))
    assert times.expected_s("m", 1000) == before_s
