"""Reads from a Hugging Face config what an exported graph lost: the soft cap of attention scores, and the windows.

optimum-intel exports ScaledDotProductAttention, which has no soft cap (docs/decisions/0009 has figures).
"""

import json
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import FailedPrecondition

_GEMMA2, _CAP, _DEFAULT_CAP, _DEFAULT_WINDOW, _DEFAULT_LAYERS = "gemma2", "attn_logit_softcapping", 50.0, 4096, 26
"""The defaults are those of transformers' Gemma2Config."""


def read_folder(folder: Path) -> tuple[list[int], float] | None:
    """Each layer's window, and the soft cap; None where attention has none, or there is no config.json.

    Raises FailedPrecondition for a soft cap in a model whose layers we do not know.
    """
    config = _config(folder)
    if config.get("model_type") == _GEMMA2:
        return (_windows(config), float(config.get(_CAP, _DEFAULT_CAP))) if has_soft_cap(folder) else None
    inner = config.get("text_config")
    for key, value in {**config, **(inner if isinstance(inner, dict) else {})}.items():
        if _caps_attention(key) and value:
            raise FailedPrecondition(
                f"worker-cpu cannot serve this model: its config.json says {key} = {value} for the model_type "
                f"{config.get('model_type')!r}, and worker-cpu knows how to cap attention scores in {_GEMMA2} only. "
                "worker-xpu, which runs transformers, may be able to",
                reason="MODEL_NOT_SUPPORTED",
            )
    return None


def has_soft_cap(folder: Path) -> bool:
    """Whether worker-cpu runs this folder's model with a soft cap."""
    config = _config(folder)
    return config.get("model_type") == _GEMMA2 and bool(config.get(_CAP, _DEFAULT_CAP))


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _caps_attention(key: str) -> bool:
    """attn_logit_softcapping, attention_logit_cap, attn_soft_cap, and the like."""
    name = key.lower().replace("_", "")
    return ("attn" in name or "attention" in name) and "cap" in name


def _windows(config: dict[str, Any]) -> list[int]:
    window = int(config.get("sliding_window", _DEFAULT_WINDOW) or 0)
    kinds = config.get("layer_types")
    if kinds is not None:
        return [window if kind == "sliding_attention" else 0 for kind in kinds]
    return [0 if index % 2 else window for index in range(int(config.get("num_hidden_layers", _DEFAULT_LAYERS)))]
