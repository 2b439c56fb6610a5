"""Compiles a model's layers with torch.compile, or leaves them alone where compiling fails or brings no gain.

Attention is not compiled: our kernels run between the two compiled halves of each layer. All layers share the compiled
code, which exists in two versions: for one token and for any number.
"""

import logging

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.options import TorchOptions

_log = logging.getLogger(__name__)

UNTRACED = f"{attention.IMPLEMENTATION}_untraced"
"""Name of the attention function that compiled layers call. It has no mask function either: see IMPLEMENTATION."""
TRIED_TOKENS = (1, 2)
"""Token counts to compile for: 1 gets its own code, 2 stands for any other number."""
TUNING: dict[str, str | int | bool] = {"coordinate_descent_tuning": True}
"""Options of inductor on CUDA. It makes the products of one token its own kernels, fuses them with their neighbours,
and tries some sizes of each kernel's blocks. One stream on an H200 gained 4 to 9 %; XPU is not measured."""


def why_not_compiled(device: TorchDevice, options: TorchOptions, *, captured: bool) -> str:
    """The reason not to compile the layers, or "" to compile them. `captured`: whether decode steps run as graphs."""
    if options.compile == "off":
        return "INFERMESH_COMPILE=off"
    if device.is_cpu:
        return "the CPU runs packed linear layers, which torch.compile cannot handle"
    if options.compile == "auto" and not captured:
        return "without graphs, torch.compile's guards cost as much as it saves"
    return ""


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> bool:
    """Compiles the model's `compiled_modules` now, for one token and for more. Returns whether it succeeded.

    If torch fails, the model is left unchanged and the log says why.
    """
    modules = compiled_modules(model)
    untraced = torch.compiler.disable(attention.attend)  # type: ignore[no-untyped-call] # torch's
    AttentionInterface.register(UNTRACED, untraced)
    attention.use(model, UNTRACED)
    options = TUNING if backend == "inductor" and model.device.type == "cuda" else None
    for module in modules:
        module.compile(dynamic=True, backend=backend, options=options)
    try:
        with torch.inference_mode():
            for tokens in TRIED_TOKENS:
                attention.record_layers(model, tokens=tokens, rows=1)
    except Exception as error:  # dynamo, inductor and the C++ compiler raise exceptions of many kinds
        _log.warning(
            "torch.compile failed; layers run uncompiled",
            extra={"reason": f"{type(error).__name__}: {str(error)[:300]}"},
        )
        for module in modules:
            module._compiled_call_impl = None
        attention.use(model, attention.IMPLEMENTATION)
        return False
    return True


def compiled_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers and their siblings: the last norm and the rotary embedding, but not the embedding table."""
    count = model.config.get_text_config().num_hidden_layers
    for parent in model.get_decoder().modules():  # a vision model may have as many layers
        for layers in parent.children():
            if isinstance(layers, nn.ModuleList) and len(layers) == count:
                siblings = [each for each in parent.children() if each is not layers]
                return [*layers, *(each for each in siblings if not isinstance(each, (nn.Embedding, nn.Dropout)))]
    return []
