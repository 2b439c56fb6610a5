"""Quantises weights to int8 or int4 with torchao, after checking that the device supports it."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.options import Quantisation

INT4_GROUP = 128
_INT4_PACKING = {"cuda": "tile_packed_to_4d", "xpu": "plain_int32"}
"""By kind of device: the packing of 4-bit weights that torchao has kernels for."""


def check(kind: Quantisation, device: TorchDevice, dtype: torch.dtype) -> None:
    """Raises FailedPrecondition if the device does not support the quantisation or torchao is missing."""
    if kind == "none":
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

    int4 skips layers whose input size is not a multiple of INT4_GROUP.
    """
    if kind == "none":
        return
    from torchao.quantization import quantize_  # type: ignore[import-untyped] # noqa: PLC0415 - an optional extra

    heads = set(model.get_output_embeddings().modules())  # of several ranks, each has a part in a module of its own
    writes: nn.Module = model.get_decoder() if "vision_config" in model.config.sub_configs else model
    layers = set(writes.modules())

    def chosen(module: nn.Module, name: str) -> bool:  # noqa: ARG001 - torchao's
        if not isinstance(module, nn.Linear) or module in heads or module not in layers:
            return False
        if (
            type(module.weight) is not nn.Parameter
        ):  # already quantised: a merged layer is reached once from each of its parts
            return False
        return kind == "int8" or module.in_features % INT4_GROUP == 0

    quantize_(model, _config(kind, device), filter_fn=chosen)


def _config(kind: Quantisation, device: TorchDevice) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig  # noqa: PLC0415 - an optional extra

    if kind == "int8":
        return Int8WeightOnlyConfig()
    return Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format=_INT4_PACKING[device.kind])


def _refusal(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="QUANTISATION_NOT_SUPPORTED")
