"""BERT in a page of numpy, to compare runtimes with where torch is not installed."""

import json
from collections.abc import Mapping
from math import erf
from pathlib import Path

import numpy as np

from infermesh_runtime.tensors import Array

_gelu = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))))


def hidden_of(folder: Path, ids: Array, types: Array) -> Array:
    """The vectors of one text's tokens, float64 [tokens, hidden], by a folder of `tiny_embedder`'s shape."""
    weights, config = _weights(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    word, place, kind = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
    hidden = _norm(word[ids] + place[: len(ids)] + kind[types], weights, "embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        hidden = _layer(hidden, weights, f"encoder.layer.{index}", config["num_attention_heads"])
    return hidden


def _layer(hidden: Array, weights: Mapping[str, Array], at: str, heads: int) -> Array:
    query, key, value = (
        np.stack(np.split(_linear(hidden, weights, f"{at}.attention.self.{name}"), heads, -1))
        for name in ("query", "key", "value")
    )
    seen = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]))
    mixed = np.concatenate(list(seen / seen.sum(-1, keepdims=True) @ value), -1)
    hidden = _norm(
        hidden + _linear(mixed, weights, f"{at}.attention.output.dense"), weights, f"{at}.attention.output.LayerNorm"
    )
    wide = _gelu(_linear(hidden, weights, f"{at}.intermediate.dense"))
    return _norm(hidden + _linear(wide, weights, f"{at}.output.dense"), weights, f"{at}.output.LayerNorm")


def _linear(x: Array, weights: Mapping[str, Array], module: str) -> Array:
    found: Array = x @ weights[f"{module}.weight"].T + weights[f"{module}.bias"]
    return found


def _norm(x: Array, weights: Mapping[str, Array], module: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    found: Array = scaled * weights[f"{module}.weight"] + weights[f"{module}.bias"]
    return found


def _weights(path: Path) -> Mapping[str, Array]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    return {
        name: np.frombuffer(content[8 + length :][slice(*entry["data_offsets"])], "<f4")
        .reshape(entry["shape"])
        .astype(np.float64)
        for name, entry in entries.items()
    }
