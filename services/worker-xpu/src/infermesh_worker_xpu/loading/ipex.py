"""Optimises a model with Intel Extension for PyTorch (IPEX), if it is installed and matches torch.

This is the only module that imports intel_extension_for_pytorch (docs/decisions/0004-ipex.md).
"""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import torch
from torch import Tensor, nn

PACKAGE = "intel_extension_for_pytorch"
DISTRIBUTION = "intel-extension-for-pytorch"

_EPSILONS = ("variance_epsilon", "eps", "epsilon")
_TOLERANCES = {torch.bfloat16: 2**-6, torch.float16: 2**-9}
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What IPEX raises when it fails: it asserts CPU features and reads attributes that this torch may lack."""

_log = logging.getLogger(__name__)

NormKernel = Callable[[Tensor, Tensor, float], Tensor]
"""RMS normalisation over the last dimension: (hidden states, weight, epsilon) -> same shape as the hidden states."""


@dataclass(frozen=True, slots=True)
class OptimisedModel:
    """The result of `optimise`."""

    model: nn.Module
    """The module that was passed in; its layers were replaced in place."""
    runtime: str = ""
    """Name and version that Health reports, such as "ipex 2.8"; empty if IPEX is not used."""


class FusedNorm(nn.Module):
    """RMS normalisation in one kernel; torch takes six."""

    def __init__(self, weight: nn.Parameter, epsilon: float, kernel: NormKernel) -> None:
        super().__init__()
        self.weight = weight
        self._epsilon = epsilon
        self._kernel = kernel

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., hidden_size] to the same shape."""
        return self._kernel(hidden_states, self.weight, self._epsilon)


def optimise(model: nn.Module, *, device: torch.device, dtype: torch.dtype) -> OptimisedModel:
    """Replaces a model's linear layers and RMS normalisations by IPEX's, in place. Attention stays the same.

    Linear layers that are already packed are left alone. If IPEX is missing, does not match or fails, the model is
    unchanged and the log says why.
    """
    reason = why_unusable(device)
    if reason:
        _log.info("IPEX is not used", extra={"reason": reason})
        return OptimisedModel(model)
    try:
        ipex = importlib.import_module(PACKAGE)
        # folding would trace the model into a new object
        ipex.optimize(model.eval(), dtype=dtype, inplace=True, conv_bn_folding=False, linear_bn_folding=False)
        norms = fuse_norms(model, ipex.llm.functional.rms_norm)
    except _FAILURES as error:
        _log.warning("IPEX failed; the model runs on torch alone", extra={"reason": f"{type(error).__name__}: {error}"})
        return OptimisedModel(model)
    _log.info("optimised by IPEX", extra={"norms": norms, "linears": _count_linears(model)})
    return OptimisedModel(model, runtime_name())


def runtime_name() -> str:
    """Name and version of the installed IPEX, such as "ipex 2.8". Raises PackageNotFoundError if there is none."""
    return f"ipex {_major_minor(metadata.version(DISTRIBUTION))}"


def why_unusable(device: torch.device) -> str:
    """Why IPEX cannot be used for this device in this environment, or "". Does not import IPEX."""
    try:
        installed = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        installed = ""
    return why_mismatched(installed, torch.__version__, device.type)


def why_mismatched(ipex_version: str, torch_version: str, device_kind: str) -> str:
    """Why this version of IPEX ("": not installed) does not fit this torch and kind of device, or "" if it does.

    Versions are compared before IPEX is imported, because its import fails with any other torch.
    """
    if device_kind not in ("xpu", "cpu"):
        return f"IPEX supports xpu and cpu, not {device_kind}"
    if not ipex_version:
        return f"the package {DISTRIBUTION} is not installed"
    if _major_minor(ipex_version) != _major_minor(torch_version):
        return f"IPEX {ipex_version} needs torch {_major_minor(ipex_version)}, but torch {torch_version} is installed"
    if device_kind == "xpu" and "xpu" not in ipex_version.partition("+")[2]:
        return f"IPEX {ipex_version} is a CPU build; xpu needs the +xpu build"
    return ""


def fuse_norms(model: nn.Module, kernel: NormKernel) -> int:
    """Replaces the RMS normalisations for which the kernel gives the same result. Returns how many."""
    fused = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            replacement = _fused(child, kernel)
            if replacement is not None:
                setattr(parent, name, replacement)
                fused += 1
    return fused


@torch.inference_mode()
def _fused(norm: nn.Module, kernel: NormKernel) -> FusedNorm | None:
    """The normalisation on `kernel`; None for other modules and for other formulas, such as Gemma's (1 + weight)."""
    weight = getattr(norm, "weight", None)
    epsilon = next((getattr(norm, name) for name in _EPSILONS if hasattr(norm, name)), None)
    named = type(norm).__name__.endswith("RMSNorm")
    if not named or not isinstance(epsilon, float) or not isinstance(weight, nn.Parameter) or weight.dim() != 1:
        return None
    fused = FusedNorm(weight, epsilon, kernel)
    sample = torch.linspace(-2, 2, 2 * len(weight), device=weight.device).to(weight.dtype).view(2, -1)
    tolerance = _TOLERANCES.get(weight.dtype, 1e-5)
    same = torch.allclose(fused(sample).float(), norm(sample).float(), rtol=tolerance, atol=tolerance)
    return fused if same else None


def _count_linears(model: nn.Module) -> int:
    return sum(type(module).__module__.startswith(PACKAGE) for module in model.modules())


def _major_minor(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2])
