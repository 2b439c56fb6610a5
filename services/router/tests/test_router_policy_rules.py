"""Rooms, breakers, loading, size rules, overflow, costs and prefixes in a choice; on snapshots alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_router.policy.choice import ChoiceProfile, choose
from infermesh_router.policy.chooser import Chooser, ChooserRules
from infermesh_router.policy.overflow import Overflow, OverflowRule
from infermesh_router.policy.placing import place
from infermesh_router.policy.preference import DEFAULT_SIZE_RULES, prefer
from infermesh_router.policy.refusals import ModelDoesNotFit, ModelNotLoaded, Saturated
from infermesh_router.policy.scorers import SCORERS, Scorer, cost_scorer
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, EndpointState, Wanted
from infermesh_router.policy.table import Table
from infermesh_runtime.errors import DeviceNotAvailable, InfermeshError, ModelNotFound, Unavailable

M = frozenset({"m"})
GB = 10**9
RATES = {"prefill_tokens_per_s": 1000.0, "decode_tokens_per_s": 1000.0}


def endpoint(address: str, **fields: object) -> EndpointSnapshot:
    return EndpointSnapshot(**({"address": address, "models": M, "ready_models": M} | RATES | fields))


def gpu(address: str = "gpu", **fields: object) -> EndpointSnapshot:
    return endpoint(address, **({"device": DeviceKind.XPU, "model_sizes": {"m": 2 * GB}} | fields))


def cpu(address: str = "cpu", **fields: object) -> EndpointSnapshot:
    return endpoint(address, **({"device": DeviceKind.CPU, "model_sizes": {"m": 2 * GB}} | fields))


def disk(address: str, **fields: object) -> EndpointSnapshot:
    nothing = {"models": frozenset(), "ready_models": frozenset(), "available": {"m": 4 * GB}}
    memory = {"memory_total_bytes": 16 * GB, "memory_free_bytes": 16 * GB, "model_sizes": {"m": 2 * GB}}
    return endpoint(address, **(nothing | memory | fields))


W = Wanted(model="m")


def ask(chooser: Chooser, endpoints: list[EndpointSnapshot], wanted: Wanted = W) -> tuple[str, str]:
    choice = chooser(endpoints, wanted, turn=0)
    return choice.address, choice.reason


def test_an_endpoint_without_room_is_passed_over_and_all_without_is_saturated() -> None:
    full = endpoint("full", sequences=6, max_running=4, max_waiting=2)
    assert not full.has_room
    assert choose([full, endpoint("slow", sequences=50)], W).address == "slow"
    with pytest.raises(Saturated, match="all that it takes") as caught:
        choose([full], W)
    assert (caught.value.reason, caught.value.code.name) == ("SATURATED", "RESOURCE_EXHAUSTED")
    assert caught.value.retry_after_s >= 1


def test_a_model_on_disk_that_nobody_may_load_is_not_said_to_be_unknown() -> None:
    with pytest.raises(DeviceNotAvailable, match="'gpu'; there are: cpu"):
        choose([disk("a", device=DeviceKind.CPU)], Wanted(model="m", device="gpu"))
    for why in ({"state": EndpointState.DRAINING}, {"connected": False}):
        with pytest.raises(Unavailable, match=r"can load the model 'm' now .a (draining|lost)") as caught:
            choose([disk("a", **why)], W)
        assert (caught.value.reason, caught.value.retry_after_s) == ("NO_ENDPOINT", 1)


def test_what_is_larger_than_every_endpoint_goes_to_an_empty_one() -> None:
    wanted = Wanted(model="m", sequences=16)
    empty, busy = endpoint("empty", max_running=4), endpoint("busy", max_running=4, sequences=1)
    assert choose([busy, empty], wanted).address == "empty"
    with pytest.raises(Saturated):
        choose([busy], wanted)


def test_an_open_breaker_is_passed_over() -> None:
    broken = endpoint("broken", breaker_open=True)
    assert choose([broken, endpoint("well", sequences=9)], W).address == "well"
    with pytest.raises(Unavailable, match="failed lately"):
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
        choose([endpoint("gone", **lost), disk("other")], W)


def test_a_model_that_is_starting_is_not_loaded_twice() -> None:
    starting = endpoint("starting", state=EndpointState.LOADING, ready_models=frozenset())
    with pytest.raises(Unavailable, match="No endpoint is ready") as caught:
        choose([starting, disk("other")], W)
    assert not isinstance(caught.value, ModelNotLoaded)


def test_a_device_asked_for_may_need_the_model_loaded_there() -> None:
    with pytest.raises(ModelNotLoaded):
        choose([cpu(), disk("gpu", device=DeviceKind.CUDA)], Wanted(model="m", device="gpu"))
    with pytest.raises(DeviceNotAvailable):
        choose([cpu(), disk("other")], Wanted(model="m", device="gpu"))


def test_an_alias_to_a_model_nobody_has_says_both_names() -> None:
    with pytest.raises(ModelNotFound, match="'x', for which 'fast' is an alias, does not exist; available: m"):
        choose([endpoint("a")], Wanted(model="x", alias="fast"))


def test_the_cheaper_is_chosen_among_about_equals() -> None:
    costs = Scorer("least_cost", 0.2, cost_scorer({"cuda": 3.0, "cpu": 1.0}, {"b": 0.5}))
    both = [endpoint("a", device=DeviceKind.CUDA), endpoint("b", device=DeviceKind.CUDA)]
    choice = choose(both, W, profile=ChoiceProfile(scorers=(*SCORERS, costs)))
    assert (choice.address, choice.reason) == ("b", "least_cost")


def test_a_small_model_goes_to_the_gpu_until_it_overflows_and_says_so() -> None:
    now_s = 0.0
    chooser = Chooser(clock=lambda: now_s)
    assert ask(chooser, [cpu(), gpu()]) == ("gpu", "only_endpoint")
    now_s = 0.1
    assert ask(chooser, [cpu(), gpu(sequences=20)]) == ("gpu", "only_endpoint")  # 2.6 s to drain: not yet
    now_s = 0.2
    assert ask(chooser, [cpu(), gpu(sequences=40)]) == ("cpu", "cpu_overflow")
    now_s = 1.0
    assert ask(chooser, [cpu(), gpu(sequences=20)]) == ("cpu", "cpu_overflow")
    now_s = 5.0
    assert ask(chooser, [cpu(), gpu(sequences=8)])[0] == "gpu"
    now_s = 5.1
    assert ask(chooser, [cpu(), gpu(sequences=20)]) == ("gpu", "only_endpoint")


@pytest.mark.parametrize(
    ("state", "wanted", "reason"),
    [
        ({"connected": False}, W, "gpu_unavailable"),
        ({"breaker_open": True}, W, "gpu_unavailable"),
        ({"ready_models": frozenset()}, W, "gpu_unavailable"),
        ({}, Wanted(model="m", tried=frozenset({"gpu"})), "gpu_unavailable"),
        ({"max_running": 1, "sequences": 1}, W, "cpu_overflow"),
    ],
)
def test_a_fallback_to_the_cpu_is_never_silent(state: dict[str, object], wanted: Wanted, reason: str) -> None:
    assert ask(Chooser(), [cpu(), gpu(**state)], wanted) == ("cpu", reason)


def test_a_device_asked_for_knows_no_preference() -> None:
    assert ask(Chooser(), [cpu("c"), gpu()], Wanted(model="m", device="cpu")) == ("c", "only_endpoint")


def test_a_models_own_rule_goes_before_its_size() -> None:
    chooser = Chooser(ChooserRules(devices={"m": "cpu"}))
    assert ask(chooser, [cpu(), gpu()]) == ("cpu", "device_preference")


def test_size_rules() -> None:
    def preferred(size: int, **fields: object) -> str:
        return prefer("m", [gpu(model_sizes={"m": size}, **fields)], size_rules=DEFAULT_SIZE_RULES).device

    assert preferred(2 * GB) == "gpu"
    assert preferred(8 * GB) == "cpu"
    unloaded = {"models": frozenset(), "memory_total_bytes": 3 * GB, "available": {"m": 4 * GB}}
    assert preferred(2 * GB, **unloaded) == "cpu"
    assert prefer("m", [gpu(model_sizes={})], size_rules=DEFAULT_SIZE_RULES).device == ""


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), max_size=50))
def test_overflow_changes_only_beyond_its_thresholds_and_not_too_often(steps: list[tuple[float, float]]) -> None:
    rule = OverflowRule(start_s=4.0, stop_s=2.0, hold_s=1.0)
    overflow, now_s, was, changed_s = Overflow(rule), 0.0, False, float("-inf")
    for drain_s, passed_s in steps:
        now_s += passed_s
        now = overflow.update(drain_s, now_s)
        if now != was:
            assert drain_s >= 4.0 if now else drain_s <= 2.0
            assert now_s - changed_s >= 1.0
            was, changed_s = now, now_s
    assert not Overflow(OverflowRule(enabled=False)).update(100.0, 0.0)


def test_a_prefix_goes_where_it_went_and_is_credited() -> None:
    chooser, blocks = Chooser(), tuple(range(1, 17))
    wanted = Wanted(model="m", blocks=blocks, prompt_tokens=1024)
    fleet = [endpoint("a"), endpoint("b"), endpoint("c")]
    first = chooser(fleet, wanted, turn=0)
    assert (first.reason, first.prompt_tokens) == ("prefix_hash", 1024)
    longer = Wanted(model="m", blocks=(*blocks, 99), prompt_tokens=1100)
    second = chooser(fleet, longer, turn=1)
    assert (second.address, second.prompt_tokens) == (first.address, 1100 - 1024)
    assert second.reason in {"prefix_affinity", "least_seconds_to_drain"}


def test_affinity_does_not_defeat_load_balance() -> None:
    wanted = Wanted(model="m", prompt_tokens=1000, blocks=(1,), cached_tokens={"a": 1000})
    assert choose([endpoint("a", sequences=4), endpoint("b")], wanted).address == "a"
    assert choose([endpoint("a", sequences=64), endpoint("b")], wanted).address == "b"
    unknown = Wanted(model="m", prompt_tokens=1000, blocks=(1,))
    hashed = choose([endpoint("a"), endpoint("b")], unknown).address
    busy = [endpoint(name, sequences=16 if name == hashed else 0) for name in "ab"]
    assert choose(busy, unknown).address != hashed


def test_two_routers_that_share_nothing_agree_on_a_prefix() -> None:
    fleet = [endpoint(f"10.0.0.{i}:1") for i in range(50)]
    for key in range(100):
        wanted = Wanted(model="m", blocks=(key * 7919,), prompt_tokens=64)
        one, other = Chooser()(fleet, wanted, turn=3), Chooser()(list(reversed(fleet)), wanted, turn=8)
        assert one.address == other.address


def test_placing_takes_free_memory_first_then_what_can_be_evicted_then_refuses() -> None:
    free, evicting = disk("free"), disk("evicting", memory_free_bytes=GB, evictable_bytes=4 * GB)
    tight = disk("tight", memory_free_bytes=GB, evictable_bytes=GB)
    assert place([evicting, free, tight], W).address == "free"
    assert (place([evicting, tight], W).address, place([evicting, tight], W).reason) == ("evicting", "evicts_idle")
    with pytest.raises(ModelDoesNotFit, match=r"needs 4.00 GB of memory; at best 2.00 GB") as caught:
        place([tight], W)
    assert caught.value.metadata["needed_bytes"] == str(4 * GB)
    assert caught.value.metadata["free_bytes"] == str(2 * GB)


def test_placing_follows_the_size_rules_and_the_device_asked_for() -> None:
    both = [disk("cpu"), disk("gpu", device=DeviceKind.XPU)]
    assert Chooser().place(both, W).reason == "size_rule"
    assert Chooser().place(both, W).address == "gpu"
    assert place(both, Wanted(model="m", device="cpu")).address == "cpu"
    with pytest.raises(DeviceNotAvailable):
        place(both, Wanted(model="m", device="cuda"))
    with pytest.raises(ModelNotFound):
        place(both, Wanted(model="x"))
    loading = disk("loading", models=M, sequences=9)
    assert place([*both, loading], W).reason == "loading"


snapshots = st.builds(
    EndpointSnapshot,
    address=st.sampled_from("abcdefgh"),
    connected=st.booleans(),
    device=st.sampled_from(list(DeviceKind)),
    models=st.sampled_from([M, frozenset()]),
    ready_models=st.sampled_from([M, frozenset()]),
    waiting_tokens=st.integers(0, 10**6),
    sequences=st.integers(0, 500),
    prefill_tokens_per_s=st.just(0.0) | st.floats(0.01, 1e9),
    decode_tokens_per_s=st.just(0.0) | st.floats(0.01, 1e9),
    kv_cache_usage=st.floats(0, 1),
    max_running=st.sampled_from([0, 8]),
    breaker_open=st.booleans(),
    model_sizes=st.sampled_from([{}, {"m": GB}]),
)
wanteds = st.builds(
    Wanted,
    model=st.just("m"),
    device=st.sampled_from(["", "gpu", "cpu", "a"]),
    prompt_tokens=st.integers(0, 10**5),
    blocks=st.sampled_from([(), (1, 2, 3)]),
    tried=st.frozensets(st.sampled_from("abc"), max_size=2),
    cached_tokens=st.dictionaries(st.sampled_from("abz"), st.integers(0, 10**5), max_size=2),
    preferred_device=st.sampled_from(["", "gpu", "cpu"]),
    preference_reason=st.just("size_rule"),
)


@given(st.lists(snapshots, unique_by=lambda s: s.address, max_size=8), wanteds)
def test_a_choice_is_one_that_may_answer_or_a_clear_refusal(fleet: list[EndpointSnapshot], wanted: Wanted) -> None:
    try:
        choice = choose(fleet, wanted)
    except InfermeshError:
        return
    chosen = next(s for s in fleet if s.address == choice.address)
    assert chosen.connected
    assert "m" in chosen.ready_models
    assert not chosen.breaker_open
    assert chosen.address not in wanted.tried
    assert choice.reason
    assert 0 <= choice.prompt_tokens <= wanted.prompt_tokens


@given(st.lists(snapshots, unique_by=lambda s: s.address, min_size=1, max_size=8), wanteds)
def test_every_score_is_between_0_and_1(fleet: list[EndpointSnapshot], wanted: Wanted) -> None:
    table = Table(fleet)
    mask = table.serving("")
    if mask.any():
        for scorer in SCORERS:
            scores = scorer.score(table, mask, wanted)
            assert scores is None or ((scores[mask] >= 0) & (scores[mask] <= 1)).all()


@given(st.lists(snapshots, min_size=1, max_size=30))
def test_a_table_that_follows_changes_is_as_one_made_anew(changes: list[EndpointSnapshot]) -> None:
    table = Table(EndpointSnapshot(address=address) for address in "abcdefgh")
    table.serving("m")
    for snapshot in changes:
        table.update(snapshot)
    fresh = Table(table)
    assert (table.serving("m") == fresh.serving("m")).all()
    assert (table.ready("m") == fresh.ready("m")).all()
    assert (table.usable == fresh.usable).all()
    assert table.drain_s.tolist() == pytest.approx([s.seconds_to_drain for s in table])
