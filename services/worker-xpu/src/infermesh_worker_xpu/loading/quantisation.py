"""Quantises weights to int8 or int4 after checking that the device supports it: with torchao, but int4 on processors.

There, torchao has no kernels. The layers get weights of 4-bit numbers, which `packing` multiplies few rows with.
"""

from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu import nibbles
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.loading import nibble_linear
from infermesh_worker_xpu.nibbles import Nibbles
from infermesh_worker_xpu.options import Quantisation

INT4_GROUP = 128
_PART_NUMBERS = 1 << 22
"""How many weights are rounded to 4 bits at once: 16 MiB in float32, several times."""
_INT4_PACKING = {"cuda": "tile_packed_to_4d", "xpu": "plain_int32"}
"""By kind of device: the packing of 4-bit weights that torchao has kernels for."""


def check(kind: Quantisation, device: TorchDevice, dtype: torch.dtype) -> None:
    """Raises FailedPrecondition if the device does not support the quantisation or torchao is missing."""
    if kind == "none":
        return
    if kind == "int4" and device.is_cpu:
        if not nibble_linear.has_kernel(dtype):
            raise _refusal(
                "On a processor, INFERMESH_QUANTISATION=int4 needs AVX-512 and INFERMESH_DTYPE=bf16. "
                "Set it to int8 or none."
            )
        return
    if find_spec("torchao") is None:
        raise _refusal("INFERMESH_QUANTISATION needs torchao. Run: pip install 'infermesh-worker-xpu[quantisation]'")
    if kind == "int4" and device.kind not in _INT4_PACKING:
        raise _refusal(f"torchao has no 4-bit kernels for {device.kind}. Set INFERMESH_QUANTISATION to int8 or none.")
    if kind == "int4" and dtype != torch.bfloat16:
        raise _refusal("INFERMESH_QUANTISATION=int4 needs INFERMESH_DTYPE=bf16.")


def quantise(model: PreTrainedModel, kind: Quantisation, device: TorchDevice) -> None:
    """Quantises the weights of the linear layers in place, except for the output head, where rounding changes tokens,
    and a vision model, which is small and loses more by it.

    int4 skips layers whose input size is not a multiple of INT4_GROUP, or of 32 on processors.
    """
    if kind == "none":
        return
    heads = set(model.get_output_embeddings().modules())  # of several ranks, each has a part in a module of its own
    writes: nn.Module = model.get_decoder() if "vision_config" in model.config.sub_configs else model
    layers = set(writes.modules())
    group = nibbles.GROUP if device.is_cpu else INT4_GROUP

    def chosen(module: nn.Module, name: str = "") -> bool:  # noqa: ARG001 - torchao's
        if not isinstance(module, nn.Linear) or module in heads or module not in layers:
            return False
        if (
            type(module.weight) is not nn.Parameter
        ):  # already quantised: a merged layer is reached once from each of its parts
            return False
        return kind == "int8" or module.in_features % group == 0

    if kind == "int4" and device.is_cpu:
        for module in model.modules():
            if chosen(module):
                _round(cast(nn.Linear, module))
        return
    from torchao.quantization import quantize_  # type: ignore[import-untyped] # noqa: PLC0415 - an optional extra

    quantize_(model, _config(kind, device), filter_fn=chosen)


def _round(linear: nn.Linear) -> None:
    """Rounds the weight to 4-bit numbers, some rows at a time, and attaches those."""
    weight = linear.weight.detach()
    rounded, parts = torch.empty_like(weight), []
    step = max(1, _PART_NUMBERS // linear.in_features)
    for rows, target in zip(torch.split(weight, step), torch.split(rounded, step), strict=True):
        parts.append(Nibbles.nearest(rows))
        target.copy_(parts[-1].values())
    linear.weight = nn.Parameter(rounded, requires_grad=False)
    nibbles.attach(linear, nibbles.stacked(parts))


def _config(kind: Quantisation, device: TorchDevice) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig  # noqa: PLC0415 - an optional extra

    if kind == "int8":
        return Int8WeightOnlyConfig()
    return Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format=_INT4_PACKING[device.kind])


def _refusal(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="QUANTISATION_NOT_SUPPORTED")
