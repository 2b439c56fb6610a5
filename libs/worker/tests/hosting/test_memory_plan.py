"""Which models are evicted to make room for another one."""

import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.hosting.memory_plan import Holding, plan_eviction, plan_room, unclaimed_bytes
from infermesh_worker.models.footprint import Footprint

SMALL = Footprint(base_bytes=10, kv_wanted_bytes=50, kv_least_bytes=5)


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


def cache(name: str, memory_bytes: int, shrinkable_bytes: int, last_used_s: float, *, in_use: bool = False) -> Holding:
    return Holding(
        name=name,
        memory_bytes=memory_bytes,
        evictable=not in_use,
        last_used_s=last_used_s,
        in_use=in_use,
        shrinkable_bytes=shrinkable_bytes,
    )


def test_kv_caches_shrink_before_any_model_goes_idle_ones_first() -> None:
    holdings = [cache("busy", 100, 60, 1.0, in_use=True), cache("new", 60, 40, 3.0), cache("old", 40, 20, 2.0)]
    plan = plan_room("m", SMALL, holdings, budget_bytes=200)
    # 120 bytes can be given up; half of what the weights leave of them would be more than the model wants.
    assert (plan.evicted, plan.kv_bytes) == ((), 50)
    assert plan.given_up == {"old": 20, "new": 40}
    assert list(plan.given_up) == ["old", "new"]


def test_what_is_left_decides_how_large_the_new_cache_is() -> None:
    plan = plan_room("m", SMALL, [cache("old", 200, 30, 2.0)], budget_bytes=200)
    assert (plan.evicted, plan.given_up, plan.kv_bytes) == ((), {"old": 20}, 10)


def test_a_model_goes_if_shrinking_is_not_enough() -> None:
    holdings = [cache("pinned", 184, 4, 1.0, in_use=True), cache("old", 10, 4, 2.0)]
    plan = plan_room("m", SMALL, holdings, budget_bytes=200)
    assert (plan.evicted, plan.given_up, plan.kv_bytes) == (("old",), {}, 5)


@pytest.mark.parametrize(("available_bytes", "evicted"), [(None, ()), (55, ()), (40, ("old",))])
def test_memory_that_others_on_the_machine_have_taken_is_not_given_away(
    available_bytes: int | None, evicted: tuple[str, ...]
) -> None:
    holdings = [Holding(name="old", memory_bytes=50, evictable=True, last_used_s=1.0, unwritten_bytes=40)]
    plan = plan_room("m", SMALL, holdings, budget_bytes=200, available_bytes=available_bytes)
    assert plan.evicted == evicted
    assert unclaimed_bytes(holdings, 200, available_bytes) == (150 if available_bytes is None else available_bytes - 40)
