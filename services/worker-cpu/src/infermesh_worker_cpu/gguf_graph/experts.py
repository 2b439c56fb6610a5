"""Mixtures of experts, in the form of which OpenVINO's CPU plugin computes only the chosen experts.

Taken literally, this graph multiplies by all experts, and shares of 0 remove what was not chosen. The plugin finds the
form (ConvertTiledMoeBlockToGatherMatmuls) and puts GatherMatmul in its place, which reads the quantised weights of the
chosen experts only. So the form must stay: with opset's swish, or without a reshape, the plugin finds nothing.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.gguf_account.spec import ExpertsSpec, LayerSpec
from infermesh_worker_cpu.gguf_graph.weights import Weights

_LAST, _FIRST = np.array([-1], np.int64), np.array([0], np.int64)


def mixture(node: ov.Node, layer: LayerSpec, experts: ExpertsSpec, weights: Weights) -> ov.Node:
    """What the chosen experts add to hidden states float32 [batch, tokens, hidden], by their weights."""
    shape = ops.shape_of(node)
    width = weights.columns(layer.gate)
    rows = ops.reshape(node, np.array([-1, width], np.int64), special_zero=False)
    tiled = ops.tile(rows, np.array([experts.count, 1], np.int64))
    tiled = ops.reshape(tiled, np.array([experts.count, -1, width], np.int64), special_zero=False)
    gate = ops.matmul(tiled, weights.stacked(layer.gate), False, True)
    up = ops.matmul(tiled, weights.stacked(layer.up), False, True)
    # the plugin makes a swish of this; opset's has a second input, which the plugin does not expect
    widened = ops.multiply(ops.multiply(gate, ops.sigmoid(gate)), up)
    outputs = ops.matmul(widened, weights.stacked(layer.down), False, True)
    count = ops.constant(np.array([experts.count], np.int64))
    outputs = ops.reshape(outputs, ops.concat([count, shape], 0), special_zero=False)
    leading = ops.gather(shape, np.array([0, 1], np.int64), np.int64(0))
    shares = ops.reshape(_shares(rows, experts, weights), ops.concat([count, leading], 0), special_zero=False)
    return ops.reduce_sum(ops.multiply(outputs, ops.unsqueeze(shares, np.int64(-1))), _FIRST, keep_dims=False)


def _shares(rows: ov.Node, experts: ExpertsSpec, weights: Weights) -> ov.Node:
    """The weight of each expert for each of the rows, 0 for those that were not chosen, [experts, rows]."""
    probabilities = ops.softmax(ops.matmul(rows, weights.matrix(experts.router), False, True), -1)
    chosen = ops.topk(probabilities, np.int64(experts.used), -1, "max", "value", "i32")
    share = chosen.output(0)
    if experts.normalised:
        share = ops.divide(share, ops.reduce_sum(share, _LAST, keep_dims=True)).output(0)
    if experts.scale != 1.0:
        share = ops.multiply(share, np.float32(experts.scale)).output(0)
    nothing = ops.broadcast(np.float32(0), ops.shape_of(probabilities))
    everyone = ops.scatter_elements_update(nothing, chosen.output(1), share, np.int64(1))
    return ops.transpose(everyone, np.array([1, 0], np.int64))
