"""The attention of one layer, with its keys and values in the state of the model.

The graph has the form that OpenVINO's paged-attention transformation recognises: state, concatenation, repeated heads,
ScaledDotProductAttention.
"""

from dataclasses import dataclass, field

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.gguf_account.spec import DecoderSpec


@dataclass(slots=True)
class Inputs:
    """What all layers share: the inputs of the graph, and the states that it writes."""

    tokens: ov.Node
    """int64 [batch, tokens]"""
    positions: ov.Node
    """int64 [batch, tokens]"""
    beams: ov.Node
    """int32 [batch]: which row of the state continues in each row."""
    masks: dict[int, ov.Node] = field(default_factory=dict)
    """By window."""
    sinks: list[ov.Node] = field(default_factory=list)


def attend(spec: DecoderSpec, inputs: Inputs, layer: int, heads: tuple[ov.Node, ov.Node, ov.Node]) -> ov.Node:
    """Attends with query, key, value [batch, heads, tokens, head size]; returns [batch, tokens, heads · head size]."""
    query, key, value = heads
    keys, values = (_remembered(spec, inputs, layer, name, node) for name, node in (("key", key), ("value", value)))
    mask = _mask(inputs, keys, spec.layers[layer].window)
    repeated = [_repeated(spec, node) for node in (keys, values)]
    scale = ops.constant(np.float32(spec.attention_scale))
    mixed = ops.scaled_dot_product_attention(query, *repeated, mask, scale, causal=False)
    return merge_heads(mixed, spec.heads * spec.head_size)


def split_heads(node: ov.Node, heads: int, head_size: int) -> ov.Node:
    """[batch, tokens, heads · head size] as [batch, heads, tokens, head size]."""
    parted = ops.reshape(node, np.array([0, 0, heads, head_size], np.int64), special_zero=True)
    return ops.transpose(parted, np.array([0, 2, 1, 3], np.int64))


def merge_heads(node: ov.Node, width: int) -> ov.Node:
    """The inverse of split_heads."""
    return ops.reshape(
        ops.transpose(node, np.array([0, 2, 1, 3], np.int64)), np.array([0, 0, width], np.int64), special_zero=True
    )


def _remembered(spec: DecoderSpec, inputs: Inputs, layer: int, name: str, new: ov.Node) -> ov.Node:
    """Appends keys or values to those of earlier tokens, a state [batch, kv heads, tokens, head size]."""
    shape = ov.PartialShape([-1, spec.kv_heads, -1, spec.head_size])
    identity = f"past_key_values.{layer}.{name}present.{layer}.{name}"
    batch = ops.gather(ops.shape_of(inputs.tokens), np.array([0], np.int64), np.int64(0))
    empty = ops.concat([batch, ops.constant(np.array([spec.kv_heads, 0, spec.head_size], np.int64))], 0)
    state = ops.read_value(ops.broadcast(np.float32(0), empty), identity, ov.Type.f32, shape)
    past = ops.gather(state, inputs.beams, np.int64(0))
    both = ops.concat([past, new], 2)
    inputs.sinks.append(ops.assign(both, identity))
    return both


def _repeated(spec: DecoderSpec, node: ov.Node) -> ov.Node:
    """Repeats each key or value head for the query heads that share it."""
    times = spec.heads // spec.kv_heads
    if times == 1:
        return node
    widened = ops.broadcast(
        ops.unsqueeze(node, np.int64(2)), np.array([1, 1, times, 1, 1], np.int64), broadcast_spec="BIDIRECTIONAL"
    )
    return ops.reshape(widened, np.array([0, spec.heads, -1, spec.head_size], np.int64), special_zero=True)


def _mask(inputs: Inputs, keys: ov.Node, window: int) -> ov.Node:
    """True where a token may look: at itself and before, within the window. Paged attention has its own mask."""
    if window not in inputs.masks:
        count = ops.gather(ops.shape_of(keys), np.int64(2), np.int64(0))
        seen = ops.reshape(
            ops.range(np.int64(0), count, np.int64(1), output_type="i64"), np.array([1, 1, -1], np.int64), False
        )
        own = ops.unsqueeze(inputs.positions, np.int64(2))
        allowed = ops.less_equal(seen, own)
        if window:
            allowed = ops.logical_and(allowed, ops.greater(seen, ops.subtract(own, np.int64(window))))
        inputs.masks[window] = ops.unsqueeze(allowed, np.int64(1))
    return inputs.masks[window]
