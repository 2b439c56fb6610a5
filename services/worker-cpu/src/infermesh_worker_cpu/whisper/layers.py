"""The parts that Whisper's graphs are made of: projections, norms, attention, feed-forward layers."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_worker_cpu.encoders.weights import FolderWeights

_EPSILON = 1e-5


class Layers:
    """Builds parts of one model's graphs from its weights, found by the names of their modules."""

    def __init__(self, weights: FolderWeights, *, activation: str, hidden_size: int, heads: int) -> None:
        self.weights = weights
        self.heads = heads
        self.head_size = hidden_size // heads
        self._hidden_size = hidden_size
        self._activation = activation

    def linear(self, node: ov.Node, module: str) -> ov.Node:
        """Multiplies by a matrix, and adds its bias, which keys lack."""
        product = ops.matmul(node, ops.constant(self.weights.get(f"{module}.weight")), False, True)
        if not self.weights.has(f"{module}.bias"):
            return product
        return ops.add(product, ops.constant(self.weights.get(f"{module}.bias")))

    def norm(self, node: ov.Node, module: str) -> ov.Node:
        """Layer norm over the last axis."""
        normed = ops.mvn(node, np.array([-1], np.int64), True, _EPSILON, "inside_sqrt")
        scaled = ops.multiply(normed, ops.constant(self.weights.get(f"{module}.weight")))
        return ops.add(scaled, ops.constant(self.weights.get(f"{module}.bias")))

    def convolve(self, node: ov.Node, module: str, stride: int) -> ov.Node:
        """A convolution over 3 frames of [1, channels, frames], and the activation."""
        kernel = ops.constant(self.weights.get(f"{module}.weight"))
        made = ops.convolution(node, kernel, [stride], [1], [1], [1])
        bias = self.weights.get(f"{module}.bias").reshape(1, -1, 1)
        return self.activate(ops.add(made, ops.constant(bias)))

    def activate(self, node: ov.Node) -> ov.Node:
        match self._activation:
            case "relu":
                return ops.relu(node)
            case "silu":
                return ops.swish(node)
            case "gelu":
                return ops.gelu(node, "erf")
            case _:
                return ops.gelu(node, "tanh")

    def feed_forward(self, node: ov.Node, layer: str) -> ov.Node:
        """The second half of a layer, with what went around it."""
        inner = self.activate(self.linear(self.norm(node, f"{layer}.final_layer_norm"), f"{layer}.fc1"))
        return ops.add(node, self.linear(inner, f"{layer}.fc2"))

    def split_heads(self, node: ov.Node, *, turned: bool = False) -> ov.Node:
        """[1, tokens, hidden] as [1, heads, tokens, head size]; `turned`: as [1, heads, head size, tokens]."""
        shape = np.array([0, 0, self.heads, self.head_size], np.int64)
        order = np.array([0, 2, 3, 1] if turned else [0, 2, 1, 3], np.int64)
        return ops.transpose(ops.reshape(node, shape, special_zero=True), order)

    def join_heads(self, node: ov.Node) -> ov.Node:
        """[1, heads, tokens, head size] as [1, tokens, hidden]."""
        shape = np.array([0, 0, self._hidden_size], np.int64)
        return ops.reshape(ops.transpose(node, np.array([0, 2, 1, 3], np.int64)), shape, special_zero=True)
