"""Reads from config.json what an encoder looks like, and refuses what we do not build."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import FailedPrecondition

FAMILIES: Mapping[str, str] = {
    "bert": "bert.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
    "camembert": "roberta.",
    "electra": "electra.",
    "mpnet": "mpnet.",
    "distilbert": "distilbert.",
    "modernbert": "model.",
}
"""What the names of a model's tensors begin with if it has a head, by model type."""
_OFFSET_FAMILIES = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
"""Their positions are counted from the id of the padding token and one more."""
_ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "swish"})
_DISTILBERT = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "hidden_act": "activation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """The sizes of an encoder."""

    family: str
    """The model type in config.json."""
    hidden_size: int
    layers: int
    heads: int
    activation: str
    norm_epsilon: float
    pad_id: int
    position_offset: int
    """The row of the table of positions that the first token gets."""
    context_length: int
    """In tokens."""
    vocab_size: int
    labels: int
    raw: Mapping[str, Any]
    """The whole of config.json."""

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads


def read_config(folder: Path) -> EncoderConfig:
    """Reads config.json. Raises FailedPrecondition for a model that cannot be built."""
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return _config(raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(f"{folder / 'config.json'} cannot be used: {error!r}") from error


def _config(raw: dict[str, Any]) -> EncoderConfig:
    family = str(raw["model_type"])
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise _not_supported(
            f"it is of the type {family}; worker-cpu builds {known} and reads ONNX, and worker-xpu runs the others"
        )
    names = _DISTILBERT if family == "distilbert" else {}

    def read(name: str, default: Any = None) -> Any:
        found = raw.get(names.get(name, name), default)
        if found is None:
            raise KeyError(names.get(name, name))
        return found

    activation = raw.get("hidden_activation") or read("hidden_act", "gelu")
    hidden_size, heads = int(read("hidden_size")), int(read("num_attention_heads"))
    _check(raw, activation, hidden_size, heads)
    pad_id = int(raw.get("pad_token_id") or 0)
    offset = pad_id + 1 if family in _OFFSET_FAMILIES else 0
    return EncoderConfig(
        family=family,
        hidden_size=hidden_size,
        layers=int(read("num_hidden_layers")),
        heads=heads,
        activation=activation,
        norm_epsilon=float(raw.get("norm_eps") or raw.get("layer_norm_eps") or 1e-12),
        pad_id=pad_id,
        position_offset=offset,
        context_length=int(read("max_position_embeddings")) - offset,
        vocab_size=int(read("vocab_size")),
        labels=labels_of(raw),
        raw=raw,
    )


def labels_of(raw: Mapping[str, Any]) -> int:
    """How many outputs the head of a classifier has; transformers' default is 2."""
    return len(raw["id2label"]) if isinstance(raw.get("id2label"), dict) else int(raw.get("num_labels") or 2)


def _check(raw: Mapping[str, Any], activation: str, hidden_size: int, heads: int) -> None:
    if activation not in _ACTIVATIONS:
        raise _not_supported(f"its activation is {activation}; worker-cpu builds {', '.join(sorted(_ACTIVATIONS))}")
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise _not_supported(f"its positions are {raw['position_embedding_type']}; worker-cpu builds absolute ones")
    if raw.get("is_decoder"):
        raise _not_supported("it is a decoder (is_decoder in config.json)")
    if raw.get("embedding_size", hidden_size) != hidden_size:
        raise _not_supported("its embeddings are narrower than its layers (embedding_size in config.json)")
    if heads < 1 or hidden_size % heads:
        raise _not_supported(f"its hidden size {hidden_size} is no multiple of its {heads} heads")


def _not_supported(problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"worker-cpu cannot serve this model: {problem}", reason="MODEL_NOT_SUPPORTED")
