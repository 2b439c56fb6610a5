"""Which device is chosen by kind and index, with accelerators and without."""

import pytest
import torch

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.options import DeviceChoice


@pytest.fixture
def two_xpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two fake devices, which can be chosen but not used. The list receives the indexes that are set."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    return chosen


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)


@pytest.mark.parametrize("kind", ["auto", "xpu"])
def test_each_device_is_taken_by_its_index(kind: DeviceChoice, two_xpus: list[int]) -> None:
    assert [devices.select(kind, index).handle for index in (0, 1)] == [torch.device("xpu", i) for i in (0, 1)]
    assert two_xpus == [0, 1]


@pytest.mark.parametrize("kind", ["auto", "xpu"])
def test_an_index_that_is_not_there_is_refused(kind: DeviceChoice, two_xpus: list[int]) -> None:
    with pytest.raises(FailedPrecondition, match="xpu device 2 does not exist: torch finds 2, numbered from 0"):
        devices.select(kind, 2)
    assert two_xpus == []


def test_another_kind_than_torch_finds_is_refused(two_xpus: list[int]) -> None:
    with pytest.raises(FailedPrecondition, match=r"No cuda device is available: torch .* finds xpu"):
        devices.select("cuda", 0)


def test_the_processors_are_taken_where_they_are_asked_for(two_xpus: list[int]) -> None:
    assert devices.select("cpu", 0) == devices.TorchDevice(torch.device("cpu"))


def test_only_the_first_falls_back_to_the_processors(none: None) -> None:
    assert devices.select("auto", 0) == devices.TorchDevice(torch.device("cpu"), devices.NO_ACCELERATOR)
    with pytest.raises(FailedPrecondition, match=r"Accelerator 1 does not exist: torch .* finds none"):
        devices.select("auto", 1)
