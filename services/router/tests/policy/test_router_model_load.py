"""Each model of an endpoint has its own room and its own time to drain."""

import pytest

from infermesh_router.policy.choice import choose
from infermesh_router.policy.model_load import ModelLoad, shared_drain_s
from infermesh_router.policy.refusals import Saturated
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.testing.snapshots import measured

BOTH = frozenset({"a", "b"})
FULL = ModelLoad(sequences=6, max_running=4, max_waiting=2, prefill_tokens_per_s=1e3, decode_tokens_per_s=128.0)
FREE = ModelLoad(sequences=1, max_running=4, max_waiting=2, prefill_tokens_per_s=1e3, decode_tokens_per_s=128.0)
TOTAL = ModelLoad(sequences=7, max_running=8, max_waiting=4)


def endpoint(address: str, **loads: ModelLoad) -> EndpointSnapshot:
    return EndpointSnapshot(address=address, models=BOTH, ready_models=BOTH, total=TOTAL, loads=loads)


def test_a_model_at_its_limit_has_no_room_although_the_endpoint_has() -> None:
    with pytest.raises(Saturated):
        choose([endpoint("x", a=FULL, b=FREE)], Wanted(model="a"))
    assert choose([endpoint("x", a=FULL, b=FREE)], Wanted(model="b")).address == "x"
    assert choose([endpoint("x", a=FULL, b=FREE), endpoint("y", a=FREE, b=FULL)], Wanted(model="a")).address == "y"


def test_an_endpoint_that_reports_no_loads_of_models_counts_with_its_total() -> None:
    old = measured("old", models=BOTH, ready_models=BOTH, sequences=7, max_running=8, max_waiting=4)
    assert choose([old], Wanted(model="a", sequences=5)).address == "old"
    with pytest.raises(Saturated):
        choose([old], Wanted(model="a", sequences=6))


def test_models_of_one_endpoint_share_its_device() -> None:
    assert shared_drain_s(4.0, []) == (4.0, 1.0)
    assert shared_drain_s(4.0, [1.0]) == (5.0, 1.0)  # the other is done after 2 s of turns
    assert shared_drain_s(4.0, [10.0, 20.0]) == (12.0, 3.0)  # three take turns until this one is done
    snapshot = endpoint("x", a=FULL, b=FREE)
    assert snapshot.drain_of("a") == (7.0, 1.0)
    assert snapshot.drain_of("b") == (2.0, 2.0)
    assert snapshot.seconds_to_drain == 7.0


def test_a_busy_neighbour_makes_an_endpoint_slower_but_does_not_close_it() -> None:
    quiet, busy = endpoint("quiet", a=FREE, b=FREE), endpoint("busy", a=FREE, b=FULL)
    assert choose([busy, quiet], Wanted(model="a")).address == "quiet"
