"""The circuit breaker, by the test's own clock."""

from functools import partial

from infermesh_router.fleet.breaker import Breaker, BreakerOptions, BreakerState


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


OPTIONS = BreakerOptions(consecutive_failures=3, min_outcomes=6, open_min_s=1.0, open_max_s=3.0, jitter=0.0)


def make(clock: Clock, changes: list[BreakerState] | None = None) -> Breaker:
    changes = [] if changes is None else changes
    return Breaker(OPTIONS, clock=clock, draw=lambda: 0.5, on_change=changes.append)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.fail(probe=breaker.enter())


def succeed(breaker: Breaker) -> None:
    breaker.succeed(probe=breaker.enter())


def state_of(breaker: Breaker) -> BreakerState:
    """Its state now: mypy would take the property for a constant."""
    return breaker.state


def test_failures_in_a_row_open_it() -> None:
    clock = Clock()
    changes: list[BreakerState] = []
    breaker = make(clock, changes)
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert (breaker.state, breaker.admits) == (BreakerState.CLOSED, True)
    fail(breaker)
    assert (breaker.state, breaker.admits, breaker.half_open_in_s) == (BreakerState.OPEN, False, 1.0)
    assert changes == [BreakerState.OPEN]


def test_a_share_of_failures_opens_it_once_there_are_enough_outcomes() -> None:
    clock = Clock()
    breaker = make(clock)
    for _ in range(2):
        fail(breaker)
        succeed(breaker)
    succeed(breaker)
    fail(breaker)
    assert state_of(breaker) is BreakerState.CLOSED  # half of them, and no more
    fail(breaker)
    assert state_of(breaker) is BreakerState.OPEN


def test_old_outcomes_do_not_count() -> None:
    clock = Clock()
    breaker = make(clock)
    fail(breaker, 2)
    succeed(breaker)
    clock.now_s += 61
    for _ in range(2):
        fail(breaker)
        succeed(breaker)
    fail(breaker)
    assert state_of(breaker) is BreakerState.CLOSED


def test_half_open_lets_one_request_at_a_time_through_and_its_first_token_closes_it() -> None:
    clock = Clock()
    changes: list[BreakerState] = []
    breaker = make(clock, changes)
    fail(breaker, 3)
    clock.now_s += 1
    assert (breaker.state, breaker.admits) == (BreakerState.HALF_OPEN, True)
    probe = breaker.enter()
    assert probe
    assert not breaker.admits
    assert not breaker.enter()
    breaker.leave(probe=False)
    assert not breaker.admits
    breaker.prove(probe=probe)
    assert (breaker.state, breaker.admits) == (BreakerState.CLOSED, True)
    assert changes == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_a_cancelled_probe_hands_its_turn_on() -> None:
    clock = Clock()
    breaker = make(clock)
    fail(breaker, 3)
    clock.now_s += 1
    breaker.leave(probe=breaker.enter())
    assert state_of(breaker) is BreakerState.HALF_OPEN
    assert breaker.admits


def test_failed_probes_double_the_open_time_up_to_its_most_and_a_proof_resets_it() -> None:
    clock = Clock()
    breaker = make(clock)
    fail(breaker, 3)
    for open_s in (1, 2, 3, 3):
        assert breaker.half_open_in_s == open_s
        clock.now_s += open_s
        fail(breaker)
    clock.now_s += 3
    succeed(breaker)
    fail(breaker, 3)
    assert breaker.half_open_in_s == 1


def test_what_was_sent_before_it_opened_says_nothing_new() -> None:
    clock = Clock()
    breaker = make(clock)
    fail(breaker, 3)
    breaker.fail(probe=False)
    breaker.succeed(probe=False)
    assert breaker.half_open_in_s == 1
    clock.now_s += 1
    breaker.fail(probe=False)
    assert state_of(breaker) is BreakerState.HALF_OPEN


def test_an_endpoint_that_is_back_is_probed_at_once() -> None:
    breaker = make(Clock())
    breaker.note_reconnect()
    assert state_of(breaker) is BreakerState.CLOSED
    fail(breaker, 3)
    breaker.note_reconnect()
    assert state_of(breaker) is BreakerState.HALF_OPEN
    assert breaker.enter()


def test_the_open_time_is_jittered() -> None:
    for draw, open_s in ((0.0, 0.8), (0.5, 1.0)):
        breaker = Breaker(BreakerOptions(consecutive_failures=1), clock=Clock(), draw=partial(float, draw))
        fail(breaker)
        assert abs(breaker.half_open_in_s - open_s) < 1e-9
