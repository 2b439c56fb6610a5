"""The parts that encoders' graphs are made of: projections, norms, activations, attention."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from .config import EncoderConfig
from .weights import FolderWeights


class Layers:
    """Builds parts of one model's graph from its weights, found by the names of their modules."""

    def __init__(self, config: EncoderConfig, weights: FolderWeights) -> None:
        self.config = config
        self.weights = weights

    def linear(self, node: ov.Node, module: str) -> ov.Node:
        """Multiplies by a matrix, and adds its bias, which only ModernBERT may lack."""
        product = ops.matmul(node, ops.constant(self.weights.get(f"{module}.weight")), False, True)
        if self._lacks_bias(f"{module}.bias"):
            return product
        return ops.add(product, ops.constant(self.weights.get(f"{module}.bias")))

    def norm(self, node: ov.Node, module: str) -> ov.Node:
        """Layer norm over the last axis. Old checkpoints call its weights gamma and beta."""
        normed = ops.mvn(node, np.array([-1], np.int64), True, self.config.norm_epsilon, "inside_sqrt")
        scaled = ops.multiply(normed, ops.constant(self.weights.get(f"{module}.weight", f"{module}.gamma")))
        if self._lacks_bias(f"{module}.bias"):
            return scaled
        return ops.add(scaled, ops.constant(self.weights.get(f"{module}.bias", f"{module}.beta")))

    def _lacks_bias(self, name: str) -> bool:
        return self.config.family == "modernbert" and not self.weights.has(name)

    def lookup(self, module: str, indexes: ov.Node) -> ov.Node:
        """Rows of a table."""
        return ops.gather(ops.constant(self.weights.get(f"{module}.weight")), indexes, np.int64(0))

    def activate(self, node: ov.Node, name: str = "") -> ov.Node:
        """The model's activation, or the one of this name."""
        match name or self.config.activation:
            case "gelu":
                return ops.gelu(node, "erf")
            case "relu":
                return ops.relu(node)
            case "silu" | "swish":
                return ops.swish(node)
            case "tanh":
                return ops.tanh(node)
            case _:
                return ops.gelu(node, "tanh")

    def split_heads(self, node: ov.Node) -> ov.Node:
        """[texts, tokens, hidden] as [texts, heads, tokens, head size]."""
        shape = np.array([0, 0, self.config.heads, self.config.head_size], np.int64)
        return ops.transpose(ops.reshape(node, shape, special_zero=True), np.array([0, 2, 1, 3], np.int64))

    def attend(self, query: ov.Node, key: ov.Node, value: ov.Node, mask: ov.Node) -> ov.Node:
        """Attention of heads [texts, heads, tokens, head size]; returns [texts, tokens, hidden]."""
        mixed = ops.scaled_dot_product_attention(query, key, value, mask, causal=False)
        shape = np.array([0, 0, self.config.hidden_size], np.int64)
        return ops.reshape(ops.transpose(mixed, np.array([0, 2, 1, 3], np.int64)), shape, special_zero=True)


def positions_of(ids: ov.Node) -> ov.Node:
    """0, 1, 2, … for the tokens of [texts, tokens]: int64 [tokens]."""
    count = ops.gather(ops.shape_of(ids), np.int64(1), np.int64(0))
    return ops.range(np.int64(0), count, np.int64(1), output_type="i64")


def is_token(mask: ov.Node) -> ov.Node:
    """Whether there is a token: boolean [texts, 1, 1, tokens] of an int32 [texts, tokens]."""
    return ops.unsqueeze(ops.not_equal(mask, np.int32(0)), np.array([1, 2], np.int64))


def first_token(hidden: ov.Node) -> ov.Node:
    """[texts, hidden] of [texts, tokens, hidden]."""
    return ops.gather(hidden, np.int64(0), np.int64(1))
