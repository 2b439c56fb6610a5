"""Settings of worker-xpu: invalid combinations are refused before anything is loaded."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from infermesh_runtime.settings import SettingsError, read
from infermesh_worker_xpu import preflight
from infermesh_worker_xpu.settings import WorkerXpuSettings


def test_defaults() -> None:
    settings = read(WorkerXpuSettings)
    assert (settings.device, settings.dtype, settings.attention, settings.quantisation) == (
        "auto",
        "auto",
        "auto",
        "none",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INFERMESH_DEVICE", "npu"),
        ("INFERMESH_DEVICE", "cpu:"),
        ("INFERMESH_DEVICE", "npu:0+1"),
        ("INFERMESH_DEVICE_INDEX", "-1"),
        ("INFERMESH_DEVICE_INDEX", "1024"),
        ("INFERMESH_DEVICE_INDEX", "0+0"),
        ("INFERMESH_DEVICE_INDEX", "0+"),
        ("INFERMESH_DEVICE_INDEX", "\u0661"),
        ("INFERMESH_DTYPE", "fp8"),
        ("INFERMESH_QUANTISATION", "int3"),
        ("INFERMESH_MEMORY_UTILISATION", "1.2"),
        ("INFERMESH_ATTENTION", "flash"),
    ],
)
def test_a_malformed_value_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        read(WorkerXpuSettings)


@pytest.mark.parametrize(
    ("device", "index", "expected"),
    [
        ("auto", "0", ("auto", (0,))),
        ("cuda", "1", ("cuda", (1,))),
        ("xpu", "0+1+2+3", ("xpu", (0, 1, 2, 3))),
        ("cpu:0+1", "0", ("cpu", (0, 1))),
        ("xpu:2+1", "2+1", ("xpu", (2, 1))),
    ],
)
def test_devices_are_named_in_one_setting_or_two(
    device: str, index: str, expected: tuple[str, tuple[int, ...]]
) -> None:
    settings = WorkerXpuSettings.model_validate({"device": device, "device_index": index})
    assert (settings.device_kind, settings.device_indices) == expected


def test_two_settings_must_name_the_same_devices() -> None:
    with pytest.raises(ValidationError, match="INFERMESH_DEVICE_INDEX=2 name other devices"):
        WorkerXpuSettings.model_validate({"device": "xpu:0+1", "device_index": "2"})


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("dtype", "bf16", "computes in fp32: dtype must be auto or fp32, not bf16"),
        ("kv_dtype", "fp16", "computes in fp32: kv_dtype must be auto or fp32, not fp16"),
        ("device", "xpu", "INFERMESH_DEVICE must be auto or cpu, not xpu"),
    ],
)
def test_exact_takes_nothing_that_is_not(field: str, value: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        WorkerXpuSettings.model_validate({"numerics": "exact", field: value})


def test_the_front_does_not_load_torch() -> None:
    """The front process reads settings and must not spend memory on torch."""
    program = "import infermesh_worker_xpu.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("chosen", "gguf", "share"),
    [
        ({"device": "cpu"}, True, 1.3125),
        ({"device": "cpu:0"}, True, 1.3125),
        ({"device": "cpu:0+1"}, True, 1.0),
        ({"device": "cpu:0+1", "quantisation": "int4"}, True, 1.3125),
        ({"device": "cpu"}, False, 1.0),
        ({"device": "cpu", "quantisation": "int4"}, False, 1.3125),
        ({"device": "cuda", "quantisation": "int4"}, False, 0.4),
        ({"device": "cpu", "numerics": "exact"}, True, 1.0),
    ],
    ids=str,
)
def test_processors_keep_four_bit_numbers_beside_the_weights(chosen: dict[str, str], gguf: bool, share: float) -> None:
    assert preflight._share(WorkerXpuSettings.model_validate(chosen), 16, gguf=gguf) == share


@pytest.mark.parametrize(("kind", "share"), [("cpu", 1.3125), (None, 1.3125), ("xpu", 0.4)])
def test_auto_takes_the_share_of_the_device_that_torch_will_find(
    kind: str | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermesh_worker_xpu.expected_kind.expected_kind", lambda _build: kind)
    assert preflight._share(WorkerXpuSettings.model_validate({"quantisation": "int4"}), 16, gguf=False) == share


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (256, 4096)),
        ({"max_sequences": "600"}, (600, 4096)),
        ({"max_batched_tokens": "128"}, (128, 128)),
        ({"device": "cuda:1"}, (256, 4096)),
        ({"device": "cpu"}, (64, 512)),
        ({"numerics": "exact"}, (64, 512)),
    ],
)
def test_steps_are_larger_on_a_gpu(
    given: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermesh_worker_xpu.expected_kind.expected_kind", lambda _build: "xpu")
    for name, value in given.items():
        monkeypatch.setenv(f"INFERMESH_{name.upper()}", value)
    settings = read(WorkerXpuSettings)
    assert (settings.max_sequences, settings.max_batched_tokens) == expected


def test_steps_fit_a_processor_where_torch_finds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh_worker_xpu.expected_kind.expected_kind", lambda _build: None)
    settings = read(WorkerXpuSettings)
    assert (settings.max_sequences, settings.max_batched_tokens) == (64, 512)
