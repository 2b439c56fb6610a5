"""Which models are evicted to make room for another one."""

import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.hosting.memory_plan import Holding, plan_eviction


def holding(name: str, memory_bytes: int, last_used_s: float = 0.0, *, evictable: bool = True) -> Holding:
    return Holding(name=name, memory_bytes=memory_bytes, evictable=evictable, last_used_s=last_used_s)


@pytest.mark.parametrize(
    ("needed_bytes", "evicted"), [(10, ()), (11, ("old",)), (40, ("old",)), (41, ("old", "new")), (60, ("old", "new"))]
)
def test_as_few_as_do_go_least_recently_used_first(needed_bytes: int, evicted: tuple[str, ...]) -> None:
    holdings = [holding("new", 20, 2.0), holding("old", 30, 1.0), holding("pinned", 40, 0.0, evictable=False)]
    assert plan_eviction("m", needed_bytes, 100, holdings) == evicted


def test_a_small_one_stays_when_a_larger_one_has_to_go_anyway() -> None:
    assert plan_eviction("m", 50, 60, [holding("small", 10, 1.0), holding("large", 50, 2.0)]) == ("large",)


def test_refusal_says_what_is_needed_and_what_could_be_free() -> None:
    with pytest.raises(ResourceExhausted, match="needs 61 bytes, and at most 60 of 100") as caught:
        plan_eviction("m", 61, 100, [holding("a", 30), holding("b", 40, evictable=False)])
    assert caught.value.reason == "MODEL_DOES_NOT_FIT"
    assert caught.value.metadata == {"model": "m", "needed_bytes": "61", "free_bytes": "60"}


def test_models_that_hold_more_than_the_budget_leave_nothing() -> None:
    with pytest.raises(ResourceExhausted) as caught:
        plan_eviction("m", 1, 100, [holding("a", 300, evictable=False)])
    assert caught.value.metadata["free_bytes"] == "0"
