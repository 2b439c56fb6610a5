"""Builds ModernBERT: norms before what they norm, rotary positions, and layers that look only at what is near."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.errors import FailedPrecondition

from .layers import Layers, is_token, positions_of

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_THETAS = {_GLOBAL: ("global_rope_theta", 160_000.0), _LOCAL: ("local_rope_theta", 10_000.0)}


def modern_bert_hidden(layers: Layers, ids: ov.Node, mask: ov.Node) -> ov.Node:
    """The vectors of all tokens, float32 [texts, tokens, hidden], from int32 [texts, tokens]."""
    raw = layers.config.raw
    hidden = layers.norm(layers.lookup("embeddings.tok_embeddings", ids), "embeddings.norm")
    positions = positions_of(ids)
    seen = is_token(mask)
    distance = ops.absolute(ops.subtract(ops.unsqueeze(positions, np.int64(0)), ops.unsqueeze(positions, np.int64(1))))
    near = ops.less_equal(distance, np.int64(int(raw.get("local_attention", 128)) // 2))
    itself = ops.equal(distance, np.int64(0))  # padding far from all tokens would see nothing, and become NaN
    masks = {_GLOBAL: seen, _LOCAL: ops.logical_or(ops.logical_and(seen, near), itself)}
    turns = {kind: _turn(layers, positions, _theta(raw, kind)) for kind in (_GLOBAL, _LOCAL)}
    for index in range(layers.config.layers):
        kind = _kind(raw, index)
        hidden = _layer(layers, index, hidden, masks[kind], turns[kind])
    return layers.norm(hidden, "final_norm")


def _layer(layers: Layers, index: int, hidden: ov.Node, mask: ov.Node, turn: tuple[ov.Node, ov.Node]) -> ov.Node:
    at = f"layers.{index}"
    normed = layers.norm(hidden, f"{at}.attn_norm") if index else hidden
    query, key, value = ops.split(layers.linear(normed, f"{at}.attn.Wqkv"), np.int64(-1), 3).outputs()
    query, key = (_rotated(layers.split_heads(node), turn) for node in (query, key))
    mixed = layers.attend(query, key, layers.split_heads(value), mask)
    hidden = ops.add(hidden, layers.linear(mixed, f"{at}.attn.Wo"))
    wide = layers.linear(layers.norm(hidden, f"{at}.mlp_norm"), f"{at}.mlp.Wi")
    content, gate = ops.split(wide, np.int64(-1), 2).outputs()
    return ops.add(hidden, layers.linear(ops.multiply(layers.activate(content), gate), f"{at}.mlp.Wo"))


def _turn(layers: Layers, positions: ov.Node, theta: float) -> tuple[ov.Node, ov.Node]:
    """Cosines and sines of the angles of all positions, float32 [tokens, head size]."""
    size = layers.config.head_size
    frequencies = (theta ** -(np.arange(0, size, 2) / size)).astype(np.float32)
    places = ops.unsqueeze(ops.convert(positions, "f32"), np.int64(1))
    angles = ops.multiply(places, ops.constant(np.concatenate([frequencies, frequencies]).reshape(1, -1)))
    return ops.cos(angles), ops.sin(angles)


def _rotated(node: ov.Node, turn: tuple[ov.Node, ov.Node]) -> ov.Node:
    first, second = ops.split(node, np.int64(-1), 2).outputs()
    swapped = ops.concat([ops.negative(second), first], -1)
    return ops.add(ops.multiply(node, turn[0]), ops.multiply(swapped, turn[1]))


def _kind(raw: Mapping[str, Any], index: int) -> str:
    if isinstance(raw.get("layer_types"), list):
        return str(raw["layer_types"][index])
    return _LOCAL if index % int(raw.get("global_attn_every_n_layers", 3)) else _GLOBAL


def _theta(raw: Mapping[str, Any], kind: str) -> float:
    name, default = _THETAS[kind]
    stated = (raw.get("rope_parameters") or {}).get(kind) or {}
    if stated.get("rope_type", "default") != "default" or raw.get("rope_scaling"):
        raise FailedPrecondition(
            "worker-cpu cannot serve this model: its rotary positions are scaled (rope_parameters in config.json)",
            reason="MODEL_NOT_SUPPORTED",
        )
    return float(stated.get("rope_theta") or raw.get(name) or default)
