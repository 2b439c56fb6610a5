"""Where a model is loaded: memory, device and size rules."""

import pytest

from infermesh_router.policy.chooser import Chooser
from infermesh_router.policy.placing import place
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import DeviceKind, Wanted
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
