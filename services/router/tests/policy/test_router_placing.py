"""Where a model is loaded: memory, device and size rules."""

from dataclasses import replace

import pytest

from infermesh_router.policy.chooser import Chooser
from infermesh_router.policy.model_load import ModelLoad
from infermesh_router.policy.placing import place
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import DeviceKind, Wanted
from infermesh_router.policy.speed import expected_s
from infermesh_router.testing.snapshots import GB, M, disk
from infermesh_runtime.errors import DeviceNotAvailable, ModelNotFound

W = Wanted(model="m")


def test_placing_takes_free_memory_first_then_what_can_be_evicted_then_refuses() -> None:
    free, evicting = disk("free"), disk("evicting", memory_free_bytes=GB, evictable_bytes=4 * GB)
    tight = disk("tight", memory_free_bytes=GB, evictable_bytes=GB)
    assert place([evicting, free, tight], W).address == "free"
    assert (place([evicting, tight], W).address, place([evicting, tight], W).reason) == ("evicting", "evicts_idle")
    with pytest.raises(ModelDoesNotFit, match=r"needs 4.00 GB of memory, but at most 2.00 GB") as caught:
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


def test_placing_prefers_the_runtime_made_for_the_device_until_both_are_measured() -> None:
    torch, openvino = disk("a", runtime="torch 2.9.1"), disk("b", runtime="openvino 2026.4.1", sequences=1)
    assert place([torch, openvino], W).address == "b"
    half_known = replace(torch, request_s={"m": 0.1})
    assert place([half_known, openvino], W).address == "b"
    assert place([half_known, replace(openvino, request_s={"m": 9.0})], W).address == "a"
    xpu = disk("c", runtime="torch 2.9.1", device=DeviceKind.XPU, sequences=1)
    assert place([torch, xpu], W).address == "c"


def test_placing_takes_the_speed_of_the_model_nearest_in_size_and_the_time_to_drain() -> None:
    sizes = {"m": 2 * GB, "small": GB, "large": 8 * GB}
    slow = disk("a", model_sizes=sizes, request_s={"small": 3.0, "large": 1.0})
    fast = disk("b", model_sizes=sizes, request_s={"small": 2.0})
    assert (expected_s(slow, "m"), expected_s(fast, "m")) == (6.0, 4.0)
    assert place([slow, fast], W).address == "b"
    assert place([slow, replace(fast, total=ModelLoad(sequences=40))], W).address == "a"  # 40 x 128 tokens at 1000/s
    assert expected_s(disk("c", model_sizes={}, request_s={"small": 2.0}), "m") is None
