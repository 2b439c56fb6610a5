"""Guesses are checked only where measured times and rates say that it pays."""

import pytest

from infermesh_engine.speculation.allocation import allocate, may_pay
from infermesh_engine.speculation.step_costs import StepCosts


def linear(rows: int) -> float:
    return 1.0 * rows


def flat(rows: int) -> float:
    return 1.0


def chances(rate: float, count: int = 8) -> list[float]:
    return [rate ** (at + 1) for at in range(count)]


def test_free_rows_are_all_used() -> None:
    assert allocate([chances(0.9), chances(0.5)], 2, flat, 128) == [8, 4]  # until less than 5 % likely


def test_no_guess_pays_where_each_row_costs_as_much_as_a_token() -> None:
    assert allocate([chances(0.9)], 1, linear, 128) == [0]


def test_the_likely_ones_come_first() -> None:
    cost = StepCosts()
    for rows, seconds in ((2, 1.0), (5, 1.2), (18, 6.0)):
        for _ in range(3):
            cost.add(rows, seconds)
    assert allocate([chances(0.9), chances(0.2)], 2, cost.estimate, 128) == [3, 0]


def test_a_step_has_room_for_so_many() -> None:
    assert sum(allocate([chances(0.9)] * 5, 5, flat, 7)) == 7


def test_a_batch_that_uses_the_device_already_needs_no_look() -> None:
    assert may_pay(8, flat, 64)
    assert not may_pay(8, linear, 64)
    assert may_pay(8, lambda rows: 1.0 if rows <= 12 else 10.0, 64)
    assert not may_pay(8, flat, 0)


def test_a_small_gain_is_not_taken() -> None:
    assert allocate([chances(0.2)], 10, flat, 128) == [0]


def test_costs_between_sizes_are_interpolated() -> None:
    costs = StepCosts()
    for _ in range(3):
        costs.add(1, 0.010)
        costs.add(5, 0.030)
    assert costs.estimate(1) == pytest.approx(0.010)
    assert costs.estimate(3) == pytest.approx(0.020)
    assert costs.estimate(5) == pytest.approx(0.030)
    assert costs.estimate(9) == pytest.approx(0.050), "what is larger goes on like that"
    assert (costs.reach(2), costs.reach(5), costs.reach(40)) == (11, 6, 50), "but not at one leap"
    plain = StepCosts()
    for _ in range(3):
        plain.add(64, 0.1)
    assert plain.estimate(65) < 0.1 * 65 / 64, "it is tried where nothing larger is known"


def test_a_hiccup_changes_no_cost() -> None:
    costs = StepCosts()
    for seconds in (5.0, 0.01, 0.01, 0.01, 3.0):
        costs.add(4, seconds)
    assert costs.estimate(4) == pytest.approx(0.01)
    assert costs.measured(4)
    assert not costs.measured(5)


def test_large_sizes_are_told_apart() -> None:
    costs = StepCosts()
    for rows in (24, 17, 20):
        for _ in range(2):
            costs.add(rows, 0.02 + 0.006 * rows)
    for rows in (17, 18, 20, 23, 24, 30):
        assert costs.estimate(rows) == pytest.approx(0.02 + 0.006 * rows)


def test_one_off_work_is_not_counted() -> None:
    costs = StepCosts()
    costs.add(4, 3.0)
    assert not costs.measured(4)
    costs.add(4, 0.01)
    assert costs.measured(4)
    assert costs.estimate(4) == pytest.approx(0.01)


def test_costs_follow_the_machine() -> None:
    costs = StepCosts()
    for seconds in (*[0.01] * 20, *[0.03] * 7):
        costs.add(4, seconds)
    assert costs.estimate(4) == pytest.approx(0.03)


def test_no_step_counts_as_quicker_than_one_with_fewer_rows() -> None:
    costs = StepCosts()
    for _ in range(2):
        for rows, seconds in (
            (4, 0.5),
            (8, 0.040),
            (9, 0.042),
            (10, 0.021),
            (12, 0.050),
        ):  # 4: long ago, on a busy machine
            costs.add(rows, seconds)
    cost = costs.growing_from(8)
    assert [cost(rows) for rows in (8, 9, 10, 12)] == pytest.approx([0.040, 0.042, 0.042, 0.050])
    assert allocate([chances(0.5, 1), chances(0.5, 1)], 8, cost, 4) == [1, 1]
    assert allocate([chances(0.1, 1), chances(0.1, 1)], 8, cost, 4) == [0, 0]
