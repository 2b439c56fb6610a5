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
        ("INFERMESH_DEVICE_INDEX", "-1"),
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
        ({"device": "cpu"}, False, 1.0),
        ({"device": "cpu", "quantisation": "int4"}, False, 1.3125),
        ({"device": "cuda", "quantisation": "int4"}, False, 0.4),
        ({"device": "cpu", "numerics": "exact"}, True, 1.0),
    ],
    ids=str,
)
def test_processors_keep_four_bit_numbers_beside_the_weights(chosen: dict[str, str], gguf: bool, share: float) -> None:
    assert preflight._share(WorkerXpuSettings.model_validate(chosen), 16, gguf=gguf) == share
