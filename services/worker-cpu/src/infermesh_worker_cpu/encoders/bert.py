"""Builds encoders of BERT's kind, whose norms follow what they norm: BERT, RoBERTa, ELECTRA, MPNet, DistilBERT."""

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.tensors import Array

from .layers import Layers, is_token, positions_of

_TYPES = "embeddings.token_type_embeddings"
_BUCKETS, _FARTHEST = 32, 128
"""MPNet: how many distances have a bias of their own, and from which all are one."""
_MASKED = np.float32(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """How the modules of a layer are called."""

    layer: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    mixed: str = "attention.output.dense"
    first_norm: str = "attention.output.LayerNorm"
    wide: str = "intermediate.dense"
    narrow: str = "output.dense"
    second_norm: str = "output.LayerNorm"


_MPNET = _Names(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    mixed="attention.attn.o",
    first_norm="attention.LayerNorm",
)
_DISTILBERT = _Names(
    layer="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    mixed="attention.out_lin",
    first_norm="sa_layer_norm",
    wide="ffn.lin1",
    narrow="ffn.lin2",
    second_norm="output_layer_norm",
)


def bert_hidden(layers: Layers, ids: ov.Node, mask: ov.Node, types: ov.Node) -> ov.Node:
    """The vectors of all tokens, float32 [texts, tokens, hidden], from int32 [texts, tokens]."""
    names = {"mpnet": _MPNET, "distilbert": _DISTILBERT}.get(layers.config.family, _Names())
    hidden = _embedded(layers, ids, types)
    seen = is_token(mask)
    if layers.config.family == "mpnet":
        seen = ops.add(_distance_bias(layers, ids), ops.select(seen, np.float32(0), _MASKED))
    for index in range(layers.config.layers):
        hidden = _layer(layers, names, f"{names.layer}.{index}", hidden, seen)
    return hidden


def _embedded(layers: Layers, ids: ov.Node, types: ov.Node) -> ov.Node:
    positions = ops.add(positions_of(ids), np.int64(layers.config.position_offset))
    hidden = ops.add(
        layers.lookup("embeddings.word_embeddings", ids), layers.lookup("embeddings.position_embeddings", positions)
    )
    if layers.weights.has(f"{_TYPES}.weight"):
        one_type = len(layers.weights.get(f"{_TYPES}.weight")) == 1  # RoBERTa's, whatever the tokenizer says
        hidden = ops.add(hidden, layers.lookup(_TYPES, np.int64(0) if one_type else types))
    return layers.norm(hidden, "embeddings.LayerNorm")


def _layer(layers: Layers, names: _Names, at: str, hidden: ov.Node, mask: ov.Node) -> ov.Node:
    query, key, value = (
        layers.split_heads(layers.linear(hidden, f"{at}.{name}")) for name in (names.query, names.key, names.value)
    )
    mixed = layers.linear(layers.attend(query, key, value, mask), f"{at}.{names.mixed}")
    hidden = layers.norm(ops.add(hidden, mixed), f"{at}.{names.first_norm}")
    wide = layers.activate(layers.linear(hidden, f"{at}.{names.wide}"))
    return layers.norm(ops.add(hidden, layers.linear(wide, f"{at}.{names.narrow}")), f"{at}.{names.second_norm}")


def _distance_bias(layers: Layers, ids: ov.Node) -> ov.Node:
    """MPNet: what is added to attention by how far tokens are apart, float32 [1, heads, tokens, tokens]."""
    most = layers.config.context_length
    buckets = _buckets(np.arange(1 - most, most))
    table = layers.weights.get("encoder.relative_attention_bias.weight")[buckets]  # by distance, from 1 - most on
    positions = positions_of(ids)
    distance = ops.subtract(ops.unsqueeze(positions, np.int64(0)), ops.unsqueeze(positions, np.int64(1)))
    rows = ops.gather(ops.constant(table), ops.add(distance, np.int64(most - 1)), np.int64(0))
    return ops.unsqueeze(ops.transpose(rows, np.array([2, 0, 1], np.int64)), np.int64(0))


def _buckets(distance: Array) -> Array:
    """The bucket of each distance of a key from its query, as T5 counts them in both directions.

    In float32, as transformers computes it: in float64, the distance 64 would be in the bucket below.
    """
    half = _BUCKETS // 2
    exact = half // 2
    size = np.abs(distance)
    far = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    share = far / np.float32(np.log(_FARTHEST / exact))
    large = exact + (share * np.float32(half - exact)).astype(np.int64)
    found: Array = (distance > 0) * half + np.where(size < exact, size, np.minimum(large, half - 1))
    return found
