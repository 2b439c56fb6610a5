"""Which endpoints may answer, and what a client is told if none may."""

import pytest

from infermesh_router.policy.choice import choose
from infermesh_router.policy.refusals import ModelNotLoaded, Saturated
from infermesh_router.policy.snapshot import DeviceKind, EndpointState, Wanted
from infermesh_router.testing.snapshots import cpu, disk, measured
from infermesh_runtime.errors import DeviceNotAvailable, ModelNotFound, Unavailable

W = Wanted(model="m")


def test_an_endpoint_without_room_is_passed_over_and_all_without_is_saturated() -> None:
    full = measured("full", sequences=6, max_running=4, max_waiting=2)
    assert choose([full, measured("slow", sequences=50)], W).address == "slow"
    with pytest.raises(Saturated, match="are full") as caught:
        choose([full], W)
    assert (caught.value.reason, caught.value.code.name) == ("SATURATED", "RESOURCE_EXHAUSTED")
    assert (caught.value.retry_after_s or 0) >= 1


def test_a_model_on_disk_that_nobody_may_load_is_not_said_to_be_unknown() -> None:
    with pytest.raises(DeviceNotAvailable, match="'gpu'; available: cpu"):
        choose([disk("a", device=DeviceKind.CPU)], Wanted(model="m", device="gpu"))
    for why in ({"state": EndpointState.DRAINING}, {"connected": False}):
        with pytest.raises(Unavailable, match=r"can load the model 'm' at the moment .a (draining|lost)") as caught:
            choose([disk("a", **why)], W)
        assert (caught.value.reason, caught.value.retry_after_s) == ("NO_ENDPOINT", 1)


def test_what_is_larger_than_every_endpoint_goes_to_an_empty_one() -> None:
    wanted = Wanted(model="m", sequences=16)
    empty, busy = measured("empty", max_running=4), measured("busy", max_running=4, sequences=1)
    assert choose([busy, empty], wanted).address == "empty"
    with pytest.raises(Saturated):
        choose([busy], wanted)


def test_an_open_breaker_is_passed_over() -> None:
    broken = measured("broken", breaker_open=True)
    assert choose([broken, measured("well", sequences=9)], W).address == "well"
    with pytest.raises(Unavailable, match="open circuit breaker"):
        choose([broken], W)


def test_a_model_on_disk_only_is_not_loaded() -> None:
    with pytest.raises(ModelNotLoaded) as caught:
        choose([disk("a")], W)
    assert (caught.value.reason, caught.value.metadata["model"]) == ("MODEL_NOT_LOADED", "m")


@pytest.mark.parametrize(
    "lost",
    [
        {"connected": False},
        {"state": EndpointState.FAILED, "ready_models": frozenset()},
        {"state": EndpointState.DRAINING, "ready_models": frozenset()},
        {"breaker_open": True},
    ],
)
def test_a_model_whose_endpoints_are_gone_can_be_loaded_elsewhere(lost: dict[str, object]) -> None:
    with pytest.raises(ModelNotLoaded):
        choose([measured("gone", **lost), disk("other")], W)


def test_a_model_that_is_starting_is_not_loaded_twice() -> None:
    starting = measured("starting", state=EndpointState.LOADING, ready_models=frozenset())
    with pytest.raises(Unavailable, match="No endpoint is ready") as caught:
        choose([starting, disk("other")], W)
    assert not isinstance(caught.value, ModelNotLoaded)


def test_a_device_asked_for_may_need_the_model_loaded_there() -> None:
    with pytest.raises(ModelNotLoaded):
        choose([cpu(), disk("gpu", device=DeviceKind.CUDA)], Wanted(model="m", device="gpu"))
    with pytest.raises(DeviceNotAvailable):
        choose([cpu(), disk("other")], Wanted(model="m", device="gpu"))


def test_an_alias_to_a_model_nobody_has_says_both_names() -> None:
    with pytest.raises(ModelNotFound, match=r"'x' \(alias 'fast'\) does not exist; available: m"):
        choose([measured("a")], Wanted(model="x", alias="fast"))
