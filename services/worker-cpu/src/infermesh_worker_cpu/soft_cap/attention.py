"""Replaces PagedAttention by plain operations that cap scores: cap · tanh(score / cap), then the softmax.

A layer reads its keys and values from the KV cache [blocks, heads, BLOCK_SIZE, head size], a parameter that is bound
without a copy. New ones are results of the graph, which the runner writes into the cache after the step. A step's
sequences are padded to one length. A token's key is always in the place of its position, and a masked one counts
exactly 0, so that sums do not depend on how a sequence is split or batched.
"""

from dataclasses import dataclass, field

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

BLOCK_SIZE = 32
"""Tokens in a KV block, as in PagedAttention on the CPU."""
STEP_INPUTS = ("capped_blocks", "capped_slots", "capped_queries", "capped_places", "capped_outputs")
"""What `steps.StepInputs` makes of a batch."""
_HIDDEN = np.float32(-3e38)
"""Added to a score that a token may not see: finite in bf16 too, and its exponential is 0."""


@dataclass(slots=True)
class _Shared:
    """What all layers share: the graph, the inputs of the step, and the mask of each window."""

    model: ov.Model
    kv_type: ov.Type
    blocks: ov.Node
    """int32 [sequences, kv heads, blocks]: row block · kv heads + head of the cache."""
    slots: ov.Node
    """int32 [tokens · kv heads]: where a new key goes, in rows of [sequences · kv heads · context, head size]."""
    queries: ov.Node
    """int32 [sequences, queries]: which of the step's tokens."""
    places: ov.Node
    """int32 [sequences, queries]: its position in its sequence."""
    outputs: ov.Node
    """int32 [tokens]: which of the padded sequences · queries."""
    masks: dict[int, ov.Node] = field(default_factory=dict)


def cap_scores(model: ov.Model, cap: float, windows: list[int], kv_type: ov.Type) -> int:
    """Replaces each PagedAttention of a model, and returns how many there were. Caches have `kv_type`, f32 or bf16.

    New results: new_key_cache.N and new_value_cache.N, [tokens, kv heads, head size] in `kv_type`.
    """
    inputs = [
        _added(model, name, [-1] * rank, ov.Type.i32) for name, rank in zip(STEP_INPUTS, (3, 1, 2, 2, 1), strict=True)
    ]
    shared = _Shared(model, kv_type, *inputs)
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "PagedAttentionExtension"]
    for node in layers:
        facts = node.get_rt_info()
        kv_heads, size = (facts[name].astype(int) for name in ("num_k_heads", "k_head_size"))
        layer = int(node.input_value(3).get_any_name().removeprefix("key_cache."))
        keys, values = (_cached(shared, node, index, kv_heads, size) for index in (0, 1))
        scale = ops.multiply(ops.convert(node.input_value(9), "f32"), np.float32(1 / cap))
        query = ops.multiply(node.input_value(0), scale)  # a factor of the scores would be moved to all keys
        scores = ops.matmul(_grouped_queries(shared, query, kv_heads, size), keys, False, True)
        weights = _weights(scores, cap, _mask(shared, keys, windows[layer]))
        mixed = _ungrouped(shared, ops.matmul(weights, values, False, False), query, kv_heads, size)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(mixed.output(0))
    model.validate_nodes_and_infer_types()
    return len(layers)


def _added(model: ov.Model, name: str, shape: list[int], kind: ov.Type) -> ov.Node:
    parameter = ops.parameter(ov.PartialShape(shape), kind, name=name)
    parameter.output(0).set_names({name})
    model.add_parameters([parameter])
    return parameter


def _cached(shared: _Shared, node: ov.Node, index: int, kv_heads: int, size: int) -> ov.Node:
    """Keys (index 0) or values (1) of each sequence, new ones included: [sequences, kv heads, context, head size]."""
    old = node.input_value(3 + index).get_node()
    name = old.output(0).get_any_name()
    new = ops.convert(ops.reshape(node.input_value(1 + index), _shape(-1, kv_heads, size), False), shared.kv_type)
    result = ops.result(new)
    result.output(0).set_names({f"new_{name}"})
    shared.model.add_results([result])
    shared.model.remove_parameter(old)
    cache = _added(shared.model, name, [-1, kv_heads, BLOCK_SIZE, size], shared.kv_type)
    rows = ops.gather(ops.reshape(cache, _shape(-1, BLOCK_SIZE, size), False), shared.blocks, np.int32(0))
    flat = ops.reshape(rows, _shape(-1, size), False)
    written = ops.scatter_update(flat, shared.slots, ops.reshape(new, _shape(-1, size), False), np.int32(0))
    shape = ops.concat([_sizes(shared.blocks, 0, 1), ops.constant(_shape(kv_heads, -1, size))], 0)
    return ops.convert(ops.reshape(written, shape, False), "f32")


def _grouped_queries(shared: _Shared, query: ov.Node, kv_heads: int, size: int) -> ov.Node:
    """[tokens, heads · size] as [sequences, kv heads, heads of each · queries, size], padded."""
    padded = ops.gather(query, shared.queries, np.int32(0))
    parted = ops.reshape(padded, _shape(0, 0, kv_heads, -1, size), True)
    return ops.reshape(ops.transpose(parted, _shape(0, 2, 3, 1, 4)), _shape(0, 0, -1, size), True)


def _ungrouped(shared: _Shared, mixed: ov.Node, query: ov.Node, kv_heads: int, size: int) -> ov.Node:
    """The inverse: [tokens, heads · size]."""
    width = query.get_output_partial_shape(0)[-1].get_length()
    group = ops.constant(_shape(0, 0, width // (kv_heads * size)))
    shape = ops.concat([group, _sizes(shared.queries, 1, 2), ops.constant(_shape(size))], 0)
    parted = ops.transpose(ops.reshape(mixed, shape, True), _shape(0, 3, 1, 2, 4))
    return ops.gather(ops.reshape(parted, _shape(-1, width), False), shared.outputs, np.int32(0))


def _weights(scores: ov.Node, cap: float, mask: ov.Node) -> ov.Node:
    """Softmax of cap · tanh(scores) [sequences, kv heads, heads of each · queries, context]."""
    capped = ops.multiply(ops.tanh(scores), np.float32(cap))
    shape = ops.concat([ops.constant(_shape(0, 0, -1)), _sizes(mask, 3, 5)], 0)
    weights = ops.softmax(ops.add(ops.reshape(capped, shape, True), mask), 4)
    return ops.reshape(weights, ops.concat([ops.constant(_shape(0, 0, -1)), _sizes(mask, 4, 5)], 0), True)


def _mask(shared: _Shared, keys: ov.Node, window: int) -> ov.Node:
    """[sequences, 1, 1, queries, context]: 0 where a token may look, at itself and before, within the window."""
    if window not in shared.masks:
        count = ops.convert(ops.gather(ops.shape_of(keys), np.int64(2), np.int32(0)), "i32")
        seen = ops.range(np.int32(0), count, np.int32(1), output_type="i32")
        own = ops.unsqueeze(shared.places, _shape(1, 2, 4))
        allowed = ops.less_equal(seen, own)
        if window:
            allowed = ops.logical_and(allowed, ops.greater(seen, ops.subtract(own, np.int32(window))))
        shared.masks[window] = ops.select(allowed, np.float32(0), _HIDDEN)
    return shared.masks[window]


def _sizes(node: ov.Node, begin: int, end: int) -> ov.Node:
    """The sizes of some dimensions, as int64 [end - begin]."""
    return ops.slice(ops.shape_of(node), _shape(begin), _shape(end), _shape(1))


def _shape(*dimensions: int) -> NDArray[np.int64]:
    return np.array(dimensions, np.int64)
