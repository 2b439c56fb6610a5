"""Owns how much memory a model will take before it is loaded. Knows no device: workers bring their own factors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Memory that a model takes once it is loaded, estimated."""

    base_bytes: int
    """Weights and working memory, whatever the size of the KV cache."""
    kv_wanted_bytes: int = 0
    """A KV cache of max_sequences whole contexts; less does too."""

    def kv_bytes(self, budget_bytes: int, kv_cache_bytes: int) -> int:
        """The KV cache it gets: `kv_cache_bytes` where that is set (not 0), else at most a quarter of the budget."""
        return kv_cache_bytes or min(self.kv_wanted_bytes, budget_bytes // 4)

    def needed_bytes(self, budget_bytes: int, kv_cache_bytes: int) -> int:
        """All that it takes. `budget_bytes`: memory of all models together."""
        return self.base_bytes + self.kv_bytes(budget_bytes, kv_cache_bytes)


def kv_token_bytes(folder: Path, element_bytes: float, *, default: int = 64 * 1024) -> int:
    """KV cache of one token over all layers, from the folder's config.json; `default` where that does not say.

    `element_bytes`: of one number in the cache, what quantisation adds included.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        layers, heads, size = _attention_shape(config.get("text_config", config))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return default
    return int(2 * layers * heads * size * element_bytes)


def _attention_shape(config: dict[str, Any]) -> tuple[int, int, int]:
    """Layers, KV heads, and elements of a head. Raises KeyError and TypeError where the config is another."""
    heads = int(config["num_attention_heads"])
    size = config.get("head_dim") or int(config["hidden_size"]) // heads
    return int(config["num_hidden_layers"]), int(config.get("num_key_value_heads") or heads), int(size)
