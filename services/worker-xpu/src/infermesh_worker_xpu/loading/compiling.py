"""Owns torch.compile of a model's layers: when it is done, and going on without. Knows no kernel of ours.

Attention stays outside: our kernels are launched between two compiled halves of each layer. All layers share what
their code compiles to, for one token and for any number.
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
"""Name of the attention function that compiled layers call; it is registered for no masks either."""
TRIED_TOKENS = (1, 2)
"""One token compiles to code of its own; two stand for any number."""


def why_not_compiled(device: TorchDevice, options: TorchOptions, *, captured: bool) -> str:
    """Why the layers are not compiled; empty where they are. `captured`: whether decode steps will be graphs."""
    if options.compile == "off":
        return "INFERMESH_COMPILE=off"
    if device.is_cpu:
        return "processors run packed linear layers, which torch.compile does not take"
    if options.compile == "auto" and not captured:
        return "without graphs its guards cost what it saves"
    return ""


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> bool:
    """Compiles `compiled_modules` now, for one token and for more; returns whether they are compiled.

    Where torch cannot, the model stays as it is and the log says why.
    """
    modules = compiled_modules(model)
    untraced = torch.compiler.disable(attention.attend)  # type: ignore[no-untyped-call] # torch's
    AttentionInterface.register(UNTRACED, untraced)
    model.set_attn_implementation(UNTRACED)
    for module in modules:
        module.compile(dynamic=True, backend=backend)
    try:
        with torch.inference_mode():
            for tokens in TRIED_TOKENS:
                attention.record_layers(model, tokens=tokens, rows=1)
    except Exception as error:  # a boundary: dynamo, inductor and the compiler they call raise what they like
        _log.warning("layers are not compiled", extra={"reason": f"{type(error).__name__}: {str(error)[:300]}"})
        for module in modules:
            module._compiled_call_impl = None
        model.set_attn_implementation(attention.IMPLEMENTATION)
        return False
    return True


def compiled_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers, and what stands beside them: the last norm and the rotary embedding, but no table."""
    count = model.config.get_text_config().num_hidden_layers
    for parent in model.modules():
        for layers in parent.children():
            if isinstance(layers, nn.ModuleList) and len(layers) == count:
                beside = [each for each in parent.children() if each is not layers]
                return [*layers, *(each for each in beside if not isinstance(each, (nn.Embedding, nn.Dropout)))]
    return []
