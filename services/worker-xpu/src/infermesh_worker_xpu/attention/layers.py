"""Connects a transformers model to paged attention: the function it calls by name, and each layer's KV cache."""

# ruff: noqa: PLR0917 - arguments in the order of kernels.AttentionKernels

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.attention.kernels import AttentionKernels
from infermesh_worker_xpu.steps.device_step import DeviceStep, SeenPart

IMPLEMENTATION = "infermesh_paged"
"""Name of the attention function. transformers has no mask function of this name, so models make no masks."""

_SLOT = "infermesh_layer"
"""Name of an attention module's attribute that holds its AttentionLayer."""

_HARMLESS = frozenset({"dropout", "position_ids", "use_cache", "output_router_logits", "cache_position", "layer_idx"})
_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """Parameters with which the model calls a layer's attention."""

    kv_heads: int
    head_dim: int
    scale: float
    sliding_window: int | None
    softcap: float | None


class AttentionLayer(Protocol):
    """Computes attention for one attention module."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:
        """query [T, heads, head_dim], key and value [T, kv_heads, head_dim]; returns [T, heads, head_dim]."""
        ...


class CurrentStep:
    """Holds the step that the model is computing, for its layers to read."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: DeviceStep | None = None


@dataclass(slots=True)
class PagedLayer:
    """A layer with a paged KV cache: keys and values, [num_blocks, block_size, kv_heads, head_dim] each."""

    key_cache: Tensor
    value_cache: Tensor
    kernels: AttentionKernels
    step: CurrentStep

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:
        step = self.step.value
        if step is None:
            raise RuntimeError("Attention was called outside a step. Set CurrentStep.value before the forward pass.")
        caches = self.key_cache, self.value_cache
        self.kernels.write_kv(key, value, *caches, step.slots)
        empty = torch.zeros if step.padded else torch.empty  # nothing else writes the rows of padding
        out = empty(query.shape, dtype=query.dtype, device=query.device)
        scale, window, softcap = spec.scale, spec.sliding_window, spec.softcap
        if (decode := step.decode) is not None:
            tokens = slice(0, decode.tokens)
            self.kernels.decode(
                query[tokens], *caches, decode.block_tables, decode.context_lens, scale, window, softcap, out[tokens]
            )
        if (prefill := step.prefill) is not None:
            tokens = slice(prefill.first_token, None)
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
        for span in step.seen.spans if step.seen is not None else ():
            self.kernels.attend_span(query, *caches, span, scale, window, softcap, out)
        return out


@dataclass(frozen=True, slots=True)
class LayerRecorder:
    """Stands in for one layer during a trial forward pass, and records its parameters with its place in the model."""

    calls: list[tuple[int, LayerSpec]]
    index: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:  # noqa: ARG002 - part of the protocol
        self.calls.append((self.index, spec))
        return query.new_zeros(query.shape)  # same strides as PagedLayer's result: torch.compile specialises on them


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
    """The attention function that transformers' modules call; tensors are [1, heads, T, head_dim].

    Raises FailedPrecondition if a module asks for something that the kernels cannot do.
    """
    asked = sorted(name for name, given in others.items() if not _is_harmless(name, given))
    if attention_mask is not None:
        asked.append("attention_mask")
    if value.shape[-1] != key.shape[-1]:
        asked.append("values with another head size than keys")
    if asked:
        raise _refusal(f"its {type(module).__name__} asks for {', '.join(asked)}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    spec = LayerSpec(key.shape[1], key.shape[3], scale, sliding_window, softcap)
    layer: AttentionLayer = getattr(module, _SLOT)
    out = layer.attend(query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), spec)
    return out[None], None


def register() -> None:
    """Registers `attend` with transformers."""
    AttentionInterface.register(IMPLEMENTATION, attend)


def use(model: PreTrainedModel, implementation: str) -> None:
    """Lets the model call this attention function; a vision model beside it keeps its own."""
    parts = {"text_config", "vision_config"} <= set(model.config.sub_configs)
    model.set_attn_implementation({"text_config": implementation} if parts else implementation)


def check_layers(model: PreTrainedModel) -> None:
    """Raises FailedPrecondition unless the model is a decoder that keeps no state besides its attention's KV cache."""
    config = model.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or not model.can_generate():
        raise _refusal("it is not a decoder-only text generator")
    if getattr(model, "_is_stateful", False):
        raise _refusal("it keeps a state besides attention's KV cache, as Mamba does")
    others = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if others:
        raise _refusal(f"it has layers of unsupported types: {', '.join(sorted(others))}")


def record_layers(model: PreTrainedModel, *, tokens: int, rows: int) -> tuple[list[LayerSpec], int]:
    """Runs the model once. Returns the parameters of each layer's attention, and the vocabulary size.

    tokens, rows: size of the run. Pass the largest batch, so that torch's allocator holds its peak memory afterwards.
    Raises FailedPrecondition unless every layer calls our attention function exactly once.
    """
    calls: list[tuple[int, LayerSpec]] = []
    assign_layers(model, lambda index: LayerRecorder(calls, index))
    ids = torch.zeros((1, tokens), dtype=torch.int64, device=model.device)
    positions = torch.arange(tokens, device=model.device)[None]
    logits = forward(model, ids, positions, torch.arange(rows, device=model.device))
    layers = model.config.get_text_config().num_hidden_layers
    if [index for index, _ in calls] != list(range(layers)):
        raise _refusal(f"it calls the attention function {len(calls)} times for {layers} layers, or not once for each")
    return [spec for _, spec in calls], int(logits.shape[-1])


def assign_layers(model: PreTrainedModel, layer_of: Callable[[int], AttentionLayer]) -> None:
    """Assigns to each attention module the layer for its place in the model."""
    for module in model.modules():
        index = getattr(module, "layer_idx", None)
        if index is not None:
            setattr(module, _SLOT, layer_of(index))


def forward(
    model: PreTrainedModel, token_ids: Tensor, positions: Tensor, rows: Tensor, seen: SeenPart | None = None
) -> Tensor:
    """Runs the model on token_ids [1, T]. Returns logits [R, vocab] of the tokens with indices rows [R].

    `seen`: the features that replace the embeddings of some tokens.
    """
    given = {"input_ids": token_ids}
    if seen is not None:
        embeddings = model.get_input_embeddings()(token_ids)
        embeddings[0, seen.tokens] = seen.features.to(embeddings.dtype)
        given = {"inputs_embeds": embeddings}
    output = model(**given, position_ids=positions, use_cache=False, logits_to_keep=rows)
    logits: Tensor = output.logits[0]
    return logits


def _is_harmless(name: str, given: Any) -> bool:
    """Whether the kernels may ignore this argument."""
    if name == "is_causal":
        return given is None or given is True
    return given is None or given is False or name in _HARMLESS


def _refusal(reason: str) -> FailedPrecondition:
    return FailedPrecondition(f"worker-xpu does not support this model: {reason}", reason="MODEL_NOT_SUPPORTED")
