"""When IPEX is used, what it replaces, and that the model works whatever IPEX does."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from infermesh_worker_xpu.loading import ipex

if TYPE_CHECKING:
    from conftest import MakeRunner

CPU = torch.device("cpu")


class TinyRMSNorm(nn.Module):
    """Llama's formula."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, size))
        self.variance_epsilon = 1e-5

    def forward(self, hidden: Tensor) -> Tensor:
        return kernel(hidden, self.weight, self.variance_epsilon)


class ShiftedRMSNorm(TinyRMSNorm):
    """Gemma's formula."""

    def forward(self, hidden: Tensor) -> Tensor:
        return kernel(hidden, 1 + self.weight, self.variance_epsilon)


def kernel(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon)


def tiny_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), TinyRMSNorm(8), nn.Sequential(ShiftedRMSNorm(8)), nn.LayerNorm(8))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A fake IPEX that matches this torch and records its calls."""
    release = torch.__version__.split("+")[0]
    monkeypatch.setattr(metadata, "version", lambda _: f"{release}+cpu")
    package = ModuleType(ipex.PACKAGE)
    calls: list[dict[str, object]] = []

    def optimize(model: nn.Module, **options: object) -> nn.Module:
        calls.append(options)
        return model

    vars(package).update(
        optimize=optimize, calls=calls, llm=SimpleNamespace(functional=SimpleNamespace(rms_norm=kernel))
    )
    monkeypatch.setitem(sys.modules, ipex.PACKAGE, package)
    return package


@pytest.mark.parametrize(
    ("ipex_version", "torch_version", "device", "reason"),
    [
        ("2.8.0", "2.8.0+cu128", "cpu", ""),
        ("2.8.0+cpu", "2.8.1", "cpu", ""),
        ("2.8.10+xpu", "2.8.0+xpu", "xpu", ""),
        ("2.8.10+xpu", "2.8.0+xpu", "cpu", ""),
        ("", "2.13.0+cpu", "cpu", "the package intel-extension-for-pytorch is not installed"),
        ("2.8.0", "2.13.0+cpu", "cpu", "IPEX 2.8.0 needs torch 2.8, but torch 2.13.0+cpu is installed"),
        ("2.8.0", "2.80.0", "cpu", "IPEX 2.8.0 needs torch 2.8, but torch 2.80.0 is installed"),
        ("2.8.0", "2.8.0+xpu", "xpu", "IPEX 2.8.0 is a CPU build; xpu needs the +xpu build"),
        ("2.8.10+xpu", "2.8.0+cu128", "cuda", "IPEX supports xpu and cpu, not cuda"),
    ],
)
def test_versions_that_match_and_that_do_not(ipex_version: str, torch_version: str, device: str, reason: str) -> None:
    assert ipex.why_mismatched(ipex_version, torch_version, device) == reason


def test_a_missing_package_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "is not installed" in ipex.why_unusable(CPU)
    optimised = ipex.optimise(model := tiny_model(), device=CPU, dtype=torch.float32)
    assert optimised == ipex.OptimisedModel(model, "")


def test_another_torch_leaves_the_model_alone_and_imports_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "1.13.0")
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    caplog.set_level(logging.INFO)
    assert ipex.optimise(tiny_model(), device=CPU, dtype=torch.float32).runtime == ""
    assert "IPEX 1.13.0 needs torch 1.13" in vars(caplog.records[-1])["reason"]


def test_a_matching_package_optimises_in_place(installed: ModuleType) -> None:
    model = tiny_model().eval()
    inputs = torch.linspace(-1, 1, 24).view(3, 8)
    with torch.inference_mode():
        expected = model(inputs)
        optimised = ipex.optimise(model, device=CPU, dtype=torch.bfloat16)
        actual = optimised.model(inputs)
    assert optimised.model is model
    assert optimised.runtime == f"ipex {'.'.join(torch.__version__.split('.')[:2])}"
    assert [call["dtype"] for call in installed.calls] == [torch.bfloat16]
    assert installed.calls[0]["inplace"] is True
    torch.testing.assert_close(actual, expected)


def test_a_loaded_model_is_optimised_and_its_runtime_says_so(installed: ModuleType, tiny_runner: MakeRunner) -> None:
    release = torch.__version__.split("+")[0]
    runtime = tiny_runner("llama").info.runtime
    assert runtime == f"torch {release}, ipex {'.'.join(release.split('.')[:2])} (float32, sdpa)"
    assert len(installed.calls) == 1


def test_exact_numerics_are_torch_s_alone(installed: ModuleType, tiny_runner: MakeRunner) -> None:
    assert "ipex" not in tiny_runner("llama", numerics="exact").info.runtime
    assert installed.calls == []


def test_quantised_weights_are_torchao_s_alone(installed: ModuleType, tiny_runner: MakeRunner) -> None:
    pytest.importorskip("torchao")
    assert "ipex" not in tiny_runner("llama", quantisation="int8").info.runtime
    assert installed.calls == []


def test_only_norms_of_the_kernel_s_formula_are_replaced() -> None:
    model = tiny_model()
    weight = model[1].weight
    assert ipex.fuse_norms(model, kernel) == 1
    assert isinstance(model[1], ipex.FusedNorm)
    assert model[1].weight is weight
    assert isinstance(model.get_submodule("2.0"), ShiftedRMSNorm)
    assert isinstance(model[3], nn.LayerNorm)
    assert ipex.fuse_norms(model, kernel) == 0


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), AssertionError("no avx512"), ModuleNotFoundError("gone")])
def test_a_failing_package_leaves_torch_serving(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(installed, "optimize", fail)
    optimised = ipex.optimise(tiny_model(), device=CPU, dtype=torch.float32)
    assert optimised.runtime == ""
    assert optimised.model(torch.zeros(1, 8)).shape == (1, 8)
    assert str(error) in vars(caplog.records[-1])["reason"]


def test_importing_the_module_imports_no_ipex() -> None:
    code = f"import infermesh_worker_xpu.loading.ipex, sys; sys.exit({ipex.PACKAGE!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
