"""Owns how a transformers model calls our attention: the function it finds by name, and each layer's KV cache.

Knows no kernel and no request.
"""

# ruff: noqa: PLR0917 - attention takes its arguments in the order of the seam, kernels.AttentionKernels

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.attention.kernels import AttentionKernels
from infermesh_worker_xpu.steps.device_step import DeviceStep

IMPLEMENTATION = "infermesh_paged"
"""Name under which the function is registered. It is registered for no masks, so models make none."""

_SLOT = "infermesh_layer"
"""Attribute of an attention module that holds its AttentionLayer."""

_HARMLESS = frozenset({"dropout", "position_ids", "use_cache", "output_router_logits", "cache_position", "layer_idx"})
_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What a layer's attention is, as the model calls it."""

    kv_heads: int
    head_dim: int
    scale: float
    sliding_window: int | None
    softcap: float | None


class AttentionLayer(Protocol):
    """What an attention module calls."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:
        """query [T, heads, head_dim], key and value [T, kv_heads, head_dim]; returns [T, heads, head_dim]."""
        ...


class CurrentStep:
    """The step that the layers of a model are computing."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: DeviceStep | None = None


@dataclass(slots=True)
class PagedLayer:
    """A layer whose KV lies in blocks, [num_blocks, block_size, kv_heads, head_dim] each of keys and values."""

    key_cache: Tensor
    value_cache: Tensor
    kernels: AttentionKernels
    step: CurrentStep

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:
        step = self.step.value
        if step is None:
            raise RuntimeError("a model computes attention outside of a step")
        caches = self.key_cache, self.value_cache
        self.kernels.write_kv(key, value, *caches, step.slots)
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        scale, window, softcap = spec.scale, spec.sliding_window, spec.softcap
        if (decode := step.decode) is not None:
            tokens = slice(0, decode.tokens)
            self.kernels.decode(
                query[tokens], *caches, decode.block_tables, decode.context_lens, scale, window, softcap, out[tokens]
            )
        if (prefill := step.prefill) is not None:
            tokens = slice(step.decodes, None)
            self.kernels.prefill(
                query[tokens],
                *caches,
                prefill.block_tables,
                prefill.begins,
                prefill.context_lens,
                prefill.max_new,
                scale,
                window,
                softcap,
                out[tokens],
            )
        return out


class LayerRecorder:
    """Stands in for every layer in a model's first forward pass and notes what each asks for."""

    def __init__(self) -> None:
        self.specs: list[LayerSpec] = []

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:  # noqa: ARG002 - the seam's
        self.specs.append(spec)
        return query.new_zeros(query.shape)  # with the strides of PagedLayer's, for which compiled code is made


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function that transformers' attention modules call; tensors are [1, heads, T, head_dim].

    Raises FailedPrecondition when a module asks for what the kernels do not do.
    """
    asked = sorted(name for name, given in others.items() if not _is_harmless(name, given))
    if attention_mask is not None:
        asked.append("attention_mask")
    if value.shape[-1] != key.shape[-1]:
        asked.append("values of another size than keys")
    if asked:
        raise _refusal(f"its {type(module).__name__} asks for {', '.join(asked)}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    spec = LayerSpec(key.shape[1], key.shape[3], scale, sliding_window, softcap)
    layer: AttentionLayer = getattr(module, _SLOT)
    out = layer.attend(query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), spec)
    return out[None], None


def register() -> None:
    """Makes `attend` known to transformers."""
    AttentionInterface.register(IMPLEMENTATION, attend)


def check_layers(model: PreTrainedModel) -> None:
    """Raises FailedPrecondition when the model is no decoder whose only state between tokens is paged attention's."""
    config = model.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or not model.can_generate():
        raise _refusal("it is no decoder that generates text")
    if getattr(model, "_is_stateful", False):
        raise _refusal("it keeps a state that is no attention (as Mamba's)")
    others = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if others:
        raise _refusal(f"it has layers of {', '.join(sorted(others))}")


def record_layers(model: PreTrainedModel, *, tokens: int, rows: int) -> tuple[list[LayerSpec], int]:
    """Runs the model once and returns what each of its attention modules asks for, and its vocabulary's size.

    tokens, rows: size of that run, the largest that will be: its peak of memory is then known to the allocator.
    Raises FailedPrecondition when the model does not use the attention function, or not once a layer.
    """
    recorder = LayerRecorder()
    modules = [module for module in model.modules() if hasattr(module, "layer_idx")]
    for module in modules:
        setattr(module, _SLOT, recorder)
    ids = torch.zeros((1, tokens), dtype=torch.int64, device=model.device)
    positions = torch.arange(tokens, device=model.device)[None]
    logits = forward(model, ids, positions, torch.arange(rows, device=model.device))
    if len(recorder.specs) != model.config.get_text_config().num_hidden_layers:
        raise _refusal(f"{len(recorder.specs)} of its layers call the attention function that is registered")
    return recorder.specs, int(logits.shape[-1])


def bind_layers(model: PreTrainedModel, layers: list[PagedLayer]) -> None:
    """Gives each attention module its layer; `layers` are in the model's order."""
    for module in model.modules():
        index = getattr(module, "layer_idx", None)
        if index is not None:
            setattr(module, _SLOT, layers[index])


def forward(model: PreTrainedModel, token_ids: Tensor, positions: Tensor, rows: Tensor) -> Tensor:
    """Logits [R, vocab] of the rows [R] of token_ids [1, T]."""
    output = model(input_ids=token_ids, position_ids=positions, use_cache=False, logits_to_keep=rows)
    logits: Tensor = output.logits[0]
    return logits


def _is_harmless(name: str, given: Any) -> bool:
    """Whether an argument that the kernels do not know changes nothing for them."""
    if name == "is_causal":
        return given is None or given is True
    return given is None or given is False or name in _HARMLESS


def _refusal(reason: str) -> FailedPrecondition:
    return FailedPrecondition(f"worker-xpu cannot serve this model: {reason}", reason="MODEL_NOT_SUPPORTED")
