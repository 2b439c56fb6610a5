"""Estimates how much memory a model will take, before it is loaded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Estimated memory of a loaded model."""

    base_bytes: int
    """Weights and working memory, without the KV cache."""
    kv_wanted_bytes: int = 0
    """KV cache for max_sequences sequences of full context length; a smaller one works too."""
    kv_least_bytes: int = 0
    """KV cache for one sequence of full context length. A model that has no more memory left than this is loaded."""

    def kv_bytes(self, budget_bytes: int, kv_cache_bytes: int, free_bytes: int) -> int:
        """Size of its KV cache: `kv_cache_bytes` if that is set (not 0).

        Otherwise what it wants, but no more than a quarter of the budget and half of what its weights leave of
        `free_bytes`, so that there is memory for further models; and no less than `kv_least_bytes`, which also takes no
        more than a quarter of the budget. `budget_bytes`: memory for all models together.
        """
        if kv_cache_bytes:
            return kv_cache_bytes
        most = min(self.kv_wanted_bytes, budget_bytes // 4)
        return min(most, max(self.kv_least_bytes, (free_bytes - self.base_bytes) // 2))

    def needed_bytes(self, budget_bytes: int, kv_cache_bytes: int) -> int:
        """The least memory with which it is loaded; with more, it gets a larger KV cache."""
        return self.base_bytes + self.kv_bytes(budget_bytes, kv_cache_bytes, 0)


def kv_token_bytes(folder: Path, element_bytes: float, *, default: int = 64 * 1024) -> int:
    """Bytes of KV cache for one token over all layers, from the folder's config.json, or `default` without one.

    `element_bytes`: size of one number in the cache, including what quantisation adds.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        layers, heads, size = _attention_shape(config.get("text_config", config))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return default
    return int(2 * layers * heads * size * element_bytes)


def _attention_shape(config: dict[str, Any]) -> tuple[int, int, int]:
    """Number of layers, number of KV heads, and head size. Raises KeyError or TypeError for an unknown config."""
    heads = int(config["num_attention_heads"])
    size = config.get("head_dim") or int(config["hidden_size"]) // heads
    return int(config["num_hidden_layers"]), int(config.get("num_key_value_heads") or heads), int(size)
