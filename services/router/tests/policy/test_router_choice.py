"""The choice of an endpoint, on snapshots alone."""

import pytest

from infermesh_router.policy.choice import ChoiceProfile, choose
from infermesh_router.policy.scorers import SCORERS, Scorer, cost_scorer
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, EndpointState, Wanted
from infermesh_router.testing.snapshots import endpoint, measured
from infermesh_runtime.errors import DeviceNotAvailable, InvalidArgument, ModelNotFound, Unavailable


def test_the_only_endpoint_is_chosen_and_says_so() -> None:
    choice = choose([endpoint("a")], Wanted(model="m"))
    assert (choice.address, choice.reason) == ("a", "only_endpoint")


def test_equal_endpoints_take_turns() -> None:
    both = [endpoint("a"), endpoint("b")]
    choices = [choose(both, Wanted(model="m"), turn=turn) for turn in range(4)]
    assert [c.address for c in choices] == ["a", "b", "a", "b"]
    assert {c.reason for c in choices} == {"equal"}


def test_among_equals_the_one_with_fewer_requests_is_chosen() -> None:
    assert choose([endpoint("a", in_flight=2), endpoint("b", in_flight=1)], Wanted(model="m")).address == "b"


def test_seconds_to_drain_count_rates_not_queue_lengths() -> None:
    gpu = endpoint("gpu", waiting_tokens=8000, prefill_tokens_per_s=20_000, decode_tokens_per_s=3000)
    cpu = endpoint("cpu", waiting_tokens=2000, prefill_tokens_per_s=1000, decode_tokens_per_s=1000)
    choice = choose([cpu, gpu], Wanted(model="m", prompt_tokens=100))
    assert (choice.address, choice.reason) == ("gpu", "least_seconds_to_drain")
    assert gpu.seconds_to_drain == pytest.approx(0.4)
    assert cpu.seconds_to_drain == pytest.approx(2.0)


def test_running_sequences_count_by_the_decode_rate() -> None:
    busy = endpoint("busy", sequences=8, decode_tokens_per_s=500, prefill_tokens_per_s=1000)
    idle = endpoint("idle", sequences=1, decode_tokens_per_s=500, prefill_tokens_per_s=1000)
    assert choose([busy, idle], Wanted(model="m")).address == "idle"


def test_an_unmeasured_endpoint_gets_work() -> None:
    measured = endpoint("measured", sequences=1, prefill_tokens_per_s=500, decode_tokens_per_s=50)
    assert choose([measured, endpoint("new")], Wanted(model="m", prompt_tokens=10)).address == "new"


def test_kv_headroom_decides_between_equally_quick() -> None:
    choice = choose([endpoint("full", kv_cache_usage=0.9), endpoint("free")], Wanted(model="m"))
    assert (choice.address, choice.reason) == ("free", "kv_headroom")


def test_a_session_stays_until_the_other_is_much_quicker() -> None:
    wanted = Wanted(model="m", session_endpoint="a")
    rates = {"prefill_tokens_per_s": 1000.0, "decode_tokens_per_s": 1000.0}
    choice = choose([endpoint("a", sequences=1, **rates), endpoint("b", **rates)], wanted)
    assert (choice.address, choice.reason) == ("a", "session_affinity")
    assert choose([endpoint("a", sequences=64, **rates), endpoint("b", **rates)], wanted).address == "b"


def test_an_unknown_model_is_not_found_and_the_others_are_listed() -> None:
    with pytest.raises(ModelNotFound, match="'x' does not exist; available: m") as caught:
        choose([endpoint("a")], Wanted(model="x"))
    assert caught.value.metadata["available"] == "m"
    assert "model" in caught.value.fields


def test_a_model_only_on_a_lost_endpoint_is_unavailable_not_unknown() -> None:
    lost = endpoint("a", connected=False, ready_models=frozenset())
    with pytest.raises(Unavailable, match="Only a could serve this request, and it cannot be reached") as caught:
        choose([lost, endpoint("b", models=frozenset({"o"}), ready_models=frozenset({"o"}))], Wanted(model="m"))
    assert caught.value.retry_after_s


def test_a_device_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(DeviceNotAvailable, match="'cuda'; available: cpu, xpu") as caught:
        choose([endpoint("a"), endpoint("b", device=DeviceKind.XPU)], Wanted(model="m", device="cuda"))
    assert caught.value.metadata["available"] == "cpu,xpu"


@pytest.mark.parametrize(
    ("device", "address"),
    [("cpu", "c"), ("xpu", "x"), ("cuda", "n"), ("auto", "x"), ("", "x"), ("x", "x"), ("n", "n")],
)
def test_devices(device: str, address: str) -> None:
    endpoints = [
        endpoint("x", device=DeviceKind.XPU),
        endpoint("c", device=DeviceKind.CPU, in_flight=1),
        endpoint("n", device=DeviceKind.CUDA, in_flight=1),
    ]
    assert choose(endpoints, Wanted(model="m", device=device)).address == address


def test_gpu_means_either_kind() -> None:
    endpoints = [
        endpoint("c"),
        endpoint("n", device=DeviceKind.CUDA, sequences=9),
        endpoint("x", device=DeviceKind.XPU),
    ]
    assert choose(endpoints, Wanted(model="m", device="gpu")).address == "x"


def test_a_named_endpoint_is_the_reason() -> None:
    choice = choose([endpoint("a:1"), endpoint("b:1")], Wanted(model="m", device="b:1"))
    assert (choice.address, choice.reason) == ("b:1", "named_endpoint")


def test_a_router_behind_the_router_decides_about_devices_itself() -> None:
    router = endpoint("r", device=DeviceKind.UNKNOWN)
    assert choose([router], Wanted(model="m", device="xpu")).address == "r"


@pytest.mark.parametrize("state", [EndpointState.LOADING, EndpointState.DRAINING, EndpointState.FAILED])
def test_nothing_ready_is_unavailable_and_says_when_to_retry(state: EndpointState) -> None:
    with pytest.raises(Unavailable, match=f"No endpoint is ready .a {state}") as caught:
        choose([endpoint("a", state=state, ready_models=frozenset())], Wanted(model="m"))
    assert caught.value.retry_after_s == 1.0
    assert caught.value.reason == "NO_ENDPOINT"


def test_no_endpoint_or_none_that_has_reported_is_unavailable() -> None:
    unheard = EndpointSnapshot(address="a", connected=False, state=EndpointState.UNKNOWN)
    for endpoints in ([], [unheard]):
        with pytest.raises(Unavailable) as caught:
            choose(endpoints, Wanted(model="m"))
        assert caught.value.retry_after_s


def test_an_empty_model_name_means_the_only_model() -> None:
    assert choose([endpoint("a")], Wanted()).address == "a"
    two = frozenset({"m", "o"})
    with pytest.raises(InvalidArgument, match="name one of: m, o") as caught:
        choose([endpoint("a", models=two, ready_models=two)], Wanted())
    assert "model" in caught.value.fields


def test_a_retry_goes_elsewhere_and_says_so() -> None:
    choice = choose([endpoint("a"), endpoint("b")], Wanted(model="m", tried=frozenset({"a"})))
    assert (choice.address, choice.reason) == ("b", "retry")
    with pytest.raises(Unavailable, match="failed on every endpoint"):
        choose([endpoint("a")], Wanted(model="m", tried=frozenset({"a"})))


def test_the_cheaper_is_chosen_among_about_equals() -> None:
    costs = Scorer("least_cost", 0.2, cost_scorer({"cuda": 3.0, "cpu": 1.0}, {"b": 0.5}))
    both = [measured("a", device=DeviceKind.CUDA), measured("b", device=DeviceKind.CUDA)]
    choice = choose(both, Wanted(model="m"), profile=ChoiceProfile(scorers=(*SCORERS, costs)))
    assert (choice.address, choice.reason) == ("b", "least_cost")
