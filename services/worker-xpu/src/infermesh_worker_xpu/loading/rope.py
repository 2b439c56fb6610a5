"""Keeps rotary embeddings from changing with the length of whatever is in a batch.

transformers recomputes the frequencies of some models (dynamic NTK, LongRoPE) in each forward pass, from the largest
position in it. A sequence's tokens would then depend on the sequences beside it. Up to the length for which the model
was first trained the frequencies are fixed, so we keep those and serve contexts up to that length.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def fix_frequencies(model: PreTrainedModel) -> int | None:
    """Fixes all frequencies; returns the longest context for which they are right, in tokens. None: any length."""
    lengths: list[int] = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if isinstance(kinds, str):
            lengths += _longest(module, kinds, _parameters(module, None))
            module.rope_type = _fixed(kinds)  # type: ignore[assignment] # an attribute of transformers' modules
        elif isinstance(kinds, Mapping):
            for layers, kind in kinds.items():
                lengths += _longest(module, kind, _parameters(module, layers))
            module.rope_type = {layers: _fixed(kind) for layers, kind in kinds.items()}  # type: ignore[assignment] # same
    return min(lengths, default=None)


def _longest(module: nn.Module, kind: str, parameters: Mapping[str, Any]) -> Iterator[int]:
    """The length up to which the frequencies of this kind do not change."""
    if _changes(kind):
        length = parameters.get("original_max_position_embeddings") if kind == "longrope" else None
        yield int(length or module.original_max_seq_len)  # type: ignore[arg-type] # same


def _changes(kind: str) -> bool:
    return "dynamic" in kind or kind == "longrope"


def _fixed(kind: str) -> str:
    return "fixed" if _changes(kind) else kind


def _parameters(module: nn.Module, layers: str | None) -> Mapping[str, Any]:
    found: Any = getattr(module.config, "rope_parameters", None) or {}
    return found if layers is None else found[layers]  # type: ignore[no-any-return] # transformers' own dictionaries
