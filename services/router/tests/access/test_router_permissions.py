"""What a key allows: models, devices and priority."""

from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.access.permissions import hide_models, permit
from infermesh_router.policy.choice import choose
from infermesh_router.policy.snapshot import DeviceKind
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.testing.keys import key_of
from infermesh_router.testing.snapshots import measured
from infermesh_runtime.errors import Code, PermissionDenied


def call(**fields: Any) -> Call:
    return read_generate(pb.GenerateRequest(**{"model": "m", "text": "hi"} | fields).SerializeToString())


def refusal(key: dict[str, Any], **fields: Any) -> PermissionDenied:
    with pytest.raises(PermissionDenied) as caught:
        permit(key_of("k", **key), call(**fields))
    assert caught.value.code is Code.PERMISSION_DENIED
    return caught.value


def test_a_key_without_restrictions_changes_nothing() -> None:
    asked = call(device="gpu", priority=0)
    assert permit(key_of("k"), asked) is asked


@pytest.mark.parametrize("model", ["other", ""])
def test_models(model: str) -> None:
    error = refusal({"models": ("m", "n")}, model=model)
    assert error.reason == "MODEL_NOT_ALLOWED"
    assert error.fields == {"model": "allowed: m, n"}
    assert permit(key_of("k", models=("m",)), call()).wanted.model == "m"


def test_priority() -> None:
    assert refusal({}, priority=1).reason == "PRIORITY_NOT_ALLOWED"
    assert refusal({"max_priority": -5}).fields == {"priority": "is not allowed by the API key"}
    assert permit(key_of("k", max_priority=7), call(priority=7)).wanted.priority == 7
    assert permit(key_of("k"), call(priority=-3)).wanted.priority == -3


@pytest.mark.parametrize(
    ("allowed", "asked", "becomes"),
    [
        (("cpu",), "", "cpu"),
        (("cpu",), "auto", "cpu"),
        (("gpu",), "", "gpu"),
        (("xpu", "cuda"), "auto", "gpu"),
        (("xpu",), "gpu", "xpu"),
        (("cpu", "xpu"), "", "cpu,xpu"),
        (("cpu", "cuda"), "gpu", "cuda"),
        (("cpu", "gpu"), "", ""),
        (("cpu", "gpu"), "gpu", "gpu"),
    ],
)
def test_devices(allowed: tuple[str, ...], asked: str, becomes: str) -> None:
    permitted = permit(key_of("k", devices=allowed), call(device=asked))
    assert permitted.wanted.device == becomes
    assert pb.GenerateRequest.FromString(permitted.body).device == (asked if "," in becomes else becomes)


@pytest.mark.parametrize("device", ["gpu", "xpu", "127.0.0.1:8083", "nonsense"])
def test_devices_that_are_refused(device: str) -> None:
    error = refusal({"devices": ("cpu",)}, device=device)
    assert (error.reason, list(error.fields)) == ("DEVICE_NOT_ALLOWED", ["device"])


def test_the_choice_keeps_to_several_allowed_devices() -> None:
    fleet = [
        measured("a:1", device=DeviceKind.CUDA),
        measured("b:1", device=DeviceKind.CPU, sequences=9),
        measured("c:1", device=DeviceKind.XPU, sequences=9),
    ]
    wanted = permit(key_of("k", devices=("cpu", "xpu")), call()).wanted
    assert {choose(fleet, wanted, turn=turn).address for turn in range(4)} <= {"b:1", "c:1"}


def test_models_that_a_key_lists() -> None:
    report = pb.HealthReport(
        models=[pb.ModelStatus(name="m"), pb.ModelStatus(name="n")], available=[pb.AvailableModel(name="o")]
    )
    seen = hide_models(key_of("k", models=("m",)), report)
    assert ([model.name for model in seen.models], list(seen.available)) == (["m"], [])
    assert hide_models(key_of("k"), report) is hide_models(None, report) is report
