"""Compares, once at load, what a model computes through our attention function with transformers' own attention.

Our function gets queries, keys, values and some numbers from the model. A model that wants something else of attention
(another mask, a bias, a state) would give wrong tokens without an error. Two short forward passes and the masks that
transformers would use show it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.attention.layers import LayerSpec
from infermesh_worker_xpu.memory_errors import is_out_of_memory

PROBE = "infermesh_probe"
"""Name of the attention function of the trial. Its masks are one number each: see `_window_of`."""

TOKENS = 24
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.2, torch.bfloat16: 0.2}
"""Largest relative difference of the logits of half of the tokens. Another mask changes them by more than half."""
_NO_WINDOW, _OTHER_MASK = 0, -1


def check_fidelity(model: PreTrainedModel, context_length: int) -> None:
    """Raises FailedPrecondition unless our attention function computes what the model's own attention does."""
    AttentionInterface.register(PROBE, _checked_attend(context_length))
    ALL_MASK_ATTENTION_FUNCTIONS.register(PROBE, lambda **mask: _window_of(mask["mask_function"], context_length))
    try:
        ours, theirs = (_logits(model, name) for name in (PROBE, "eager"))
    except FailedPrecondition:
        raise
    except Exception as error:  # a boundary: the model's code is transformers'
        if is_out_of_memory(error):
            raise
        raise _refusal(f"its code fails in a trial: {type(error).__name__}: {error}") from error
    finally:
        attention.use(model, attention.IMPLEMENTATION)
    difference = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    if difference.median().item() > _TOLERANCE.get(model.dtype, 0.2):
        raise _refusal("its attention is not the causal one that worker-xpu computes")


@dataclass(frozen=True, slots=True)
class _DenseLayer:
    """Attention over the queries' own tokens, by its definition."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: LayerSpec) -> Tensor:
        group = query.shape[1] // key.shape[1]
        keys, values = (part.repeat_interleave(group, 1).float() for part in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query.float(), keys) * spec.scale
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        places = torch.arange(len(query), device=query.device)
        seen = places[None] <= places[:, None]
        if spec.sliding_window is not None:
            seen &= places[None] > places[:, None] - spec.sliding_window
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype).contiguous()


def _checked_attend(context_length: int) -> Callable[..., tuple[Tensor, None]]:
    """Our attention function, but its masks are checked against the window that the model hands over."""

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        if attention_mask is not None:
            _check_mask(int(attention_mask), options.get("sliding_window"), context_length, type(module).__name__)
        return attention.attend(module, query, key, value, None, **options)

    return attend


def _check_mask(masked: int, window: int | None, context_length: int, name: str) -> None:
    if masked == _OTHER_MASK:
        raise _refusal(f"the mask of its {name} is neither causal nor a sliding window")
    given = window if window is not None and window < context_length else _NO_WINDOW
    if given != masked:
        raise _refusal(f"its {name} asks for {_window(given)}, and transformers' mask for it has {_window(masked)}")


def _window(tokens: int) -> str:
    return f"a sliding window of {tokens} tokens" if tokens else "no sliding window"


def _window_of(mask_function: Callable[..., Tensor], context_length: int) -> Tensor:
    """How many tokens the last token of a context sees, from its own back; 0: all; -1: others than these."""
    keys = torch.arange(context_length + 1)
    last = torch.full_like(keys, context_length - 1)
    seen = mask_function(torch.zeros_like(keys), torch.zeros_like(keys), last, keys).broadcast_to(keys.shape).nonzero()
    count = len(seen)
    if not count or int(seen[-1]) != context_length - 1 or int(seen[0]) != context_length - count:
        return torch.tensor(_OTHER_MASK)
    return torch.tensor(count if count < context_length else _NO_WINDOW)


@torch.inference_mode()
def _logits(model: PreTrainedModel, implementation: str) -> Tensor:
    """Logits [TOKENS, vocab] of tokens from all over the vocabulary."""
    attention.use(model, implementation)
    attention.assign_layers(model, lambda _index: _DenseLayer())
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    ids = torch.linspace(0, rows - 1, TOKENS, device=model.device).long()[None]
    positions = torch.arange(TOKENS, device=model.device)
    return attention.forward(model, ids, positions[None], positions).float()


def _refusal(reason: str) -> FailedPrecondition:
    return FailedPrecondition(f"worker-xpu does not support this model: {reason}", reason="MODEL_NOT_SUPPORTED")
