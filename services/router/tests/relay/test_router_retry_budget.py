"""The retry budget, by the test's own clock."""

from infermesh_router.relay.retrying.retry_budget import RetryBudget


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_retry_budget_is_a_share_of_the_requests_beside_a_few_each_second() -> None:
    clock = Clock()
    budget = RetryBudget(ratio=0.5, per_s=1.0, most=2.0, clock=clock)
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
    clock.now_s += 10
    assert budget.balance == 2.0
