"""Which device a model prefers, and when its requests go to the CPU instead."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_router.policy.chooser import Chooser, ChooserRules
from infermesh_router.policy.overflow import Overflow, OverflowRule
from infermesh_router.policy.preference import DEFAULT_SIZE_RULES, prefer
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.testing.snapshots import GB, cpu, gpu

W = Wanted(model="m")


def ask(chooser: Chooser, endpoints: list[EndpointSnapshot], wanted: Wanted = W) -> tuple[str, str]:
    choice = chooser(endpoints, wanted, turn=0)
    return choice.address, choice.reason


def test_a_small_model_goes_to_the_gpu_until_it_overflows_and_says_so() -> None:
    now_s = 0.0
    chooser = Chooser(clock=lambda: now_s)
    assert ask(chooser, [cpu(), gpu()]) == ("gpu", "size_rule")
    now_s = 0.1
    assert ask(chooser, [cpu(), gpu(sequences=20)]) == ("gpu", "size_rule")  # 2.6 s to drain: not yet
    now_s = 0.2
    assert ask(chooser, [cpu(), gpu(sequences=40)]) == ("cpu", "cpu_overflow")
    now_s = 1.0
    assert ask(chooser, [cpu(), gpu(sequences=20)]) == ("cpu", "cpu_overflow")
    now_s = 5.0
    assert ask(chooser, [cpu(), gpu(sequences=8)])[0] == "gpu"
    now_s = 5.1
    assert ask(chooser, [cpu(), gpu(sequences=20)]) == ("gpu", "size_rule")


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
def test_a_fallback_to_the_cpu_is_never_silent(state: dict[str, Any], wanted: Wanted, reason: str) -> None:
    assert ask(Chooser(), [cpu(), gpu(**state)], wanted) == ("cpu", reason)


def test_the_cpu_that_a_rule_left_out_is_told() -> None:
    choice = Chooser()([cpu(sequences=9), gpu()], W, turn=0)
    (left_out,) = choice.runners_up
    assert (left_out.endpoint, left_out.score, choice.score) == ("cpu", 0.0, 0.0)
    assert left_out.seconds > choice.seconds > 0
    assert not Chooser()([cpu(connected=False), gpu()], W, turn=0).runners_up  # it could not have answered
    assert ask(Chooser(), [cpu(connected=False), gpu()]) == ("gpu", "only_endpoint")


def test_the_quickest_that_a_rule_left_out_are_told_first() -> None:
    cpus = [cpu(str(sequences), sequences=sequences) for sequences in (5, 3, 1, 4, 2, 6)]
    left_out = Chooser()([*cpus, gpu()], W, turn=0).runners_up
    assert [each.endpoint for each in left_out] == ["1", "2", "3"]
    assert left_out[0].seconds < left_out[1].seconds < left_out[2].seconds


def test_one_that_a_rule_left_out_is_not_told_with_the_accelerators_rates() -> None:
    """Nobody knows when it would be done, so it comes after those of which that is known."""
    new = cpu("new", prefill_tokens_per_s=0.0, decode_tokens_per_s=0.0)
    choice = Chooser()([new, cpu(sequences=9), gpu()], W, turn=0)
    assert [(each.endpoint, each.seconds > 0) for each in choice.runners_up] == [("cpu", True), ("new", False)]


def test_a_device_asked_for_knows_no_preference() -> None:
    assert ask(Chooser(), [cpu("c"), gpu()], Wanted(model="m", device="cpu")) == ("c", "only_endpoint")


def test_a_models_own_rule_goes_before_its_size() -> None:
    chooser = Chooser(ChooserRules(devices={"m": "cpu"}))
    assert ask(chooser, [cpu(), gpu()]) == ("cpu", "device_preference")


def test_size_rules() -> None:
    def preferred(size: int, **fields: Any) -> str:
        return prefer("m", [gpu(model_sizes={"m": size}, **fields)], size_rules=DEFAULT_SIZE_RULES).device

    assert preferred(2 * GB) == "gpu"
    assert preferred(8 * GB) == "cpu"
    unloaded: dict[str, Any] = {"models": frozenset(), "memory_total_bytes": 3 * GB, "available": {"m": 4 * GB}}
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
