"""The parts of a decoder layer: norms, projections, attention and MLP."""

from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.spec import DecoderSpec, LayerSpec, SharedExpertSpec
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_cpu.gguf_graph.attention import Inputs, attend, split_heads
from infermesh_worker_cpu.gguf_graph.experts import mixture
from infermesh_worker_cpu.gguf_graph.rope import Rotation, paired_by_halves, rotate
from infermesh_worker_cpu.gguf_graph.weights import Weights


class Block:
    """Builds the layers of one decoder."""

    def __init__(self, spec: DecoderSpec, file: GgufFile, weights: Weights) -> None:
        self._spec = spec
        self._file = file
        self._weights = weights

    def layer(self, hidden: ov.Node, index: int, inputs: Inputs, by: Rotation | None) -> ov.Node:
        """One layer on hidden states float32 [batch, tokens, hidden]."""
        layer = self._spec.layers[index]
        query, key, value = self._heads(self.norm(hidden, layer.attention_norm), layer, by)
        mixed = self.linear(attend(self._spec, inputs, index, (query, key, value)), layer.output)
        hidden = self._added(hidden, self.norm(mixed, layer.attention_post_norm))
        widened = self._mlp(self.norm(hidden, layer.mlp_norm), layer)
        return self._added(hidden, self.norm(widened, layer.mlp_post_norm))

    def norm(self, node: ov.Node, name: str | None) -> ov.Node:
        """Root-mean-square norm over the last axis; without a name, the node itself."""
        if name is None:
            return node
        squares = ops.reduce_mean(ops.power(node, np.float32(2)), np.array([-1], np.int64), keep_dims=True)
        inverse = ops.divide(np.float32(1), ops.sqrt(ops.add(squares, np.float32(self._spec.norm_epsilon))))
        return ops.multiply(ops.multiply(node, inverse), ops.constant(self._file.vector(name)))

    def linear(self, node: ov.Node, linear: Linear, order: NDArray[np.int64] | None = None) -> ov.Node:
        """Multiplies by a matrix, and adds its bias if it has one. `order` reorders the outputs."""
        product = ops.matmul(node, self._weights.matrix(linear, order), False, True)
        if linear.bias is None:
            return product
        bias = self._file.vector(linear.bias)[linear.begin : linear.begin + linear.rows]
        return ops.add(product, ops.constant(bias if order is None else bias[order]))

    def _heads(self, node: ov.Node, layer: LayerSpec, by: Rotation | None) -> tuple[ov.Node, ov.Node, ov.Node]:
        query = self._normed_heads(node, layer, "query")
        key = self._normed_heads(node, layer, "key")
        value = split_heads(self.linear(node, layer.value), self._spec.kv_heads, self._spec.head_size)
        if by is None:
            return query, key, value
        return rotate(query, by, self._spec.head_size), rotate(key, by, self._spec.head_size), value

    def _normed_heads(self, node: ov.Node, layer: LayerSpec, name: Literal["query", "key"]) -> ov.Node:
        """Projects to the heads of queries or keys, ordered so that pairs are halves, and applies their norm."""
        size = self._spec.head_size
        linear, norm, heads = {
            "query": (layer.query, layer.query_norm, self._spec.heads),
            "key": (layer.key, layer.key_norm, self._spec.kv_heads),
        }[name]
        order = None
        if layer.rope is not None and layer.rope.pairing == "interleaved":
            order = paired_by_halves(heads, size, layer.rope.dimensions)
        projected = self.linear(node, linear, order)
        if self._spec.norms_whole_heads:
            return split_heads(self.norm(projected, norm), heads, size)
        return self.norm(split_heads(projected, heads, size), norm)

    def _mlp(self, node: ov.Node, layer: LayerSpec) -> ov.Node:
        if layer.experts is None:
            return self._gated(node, layer.gate, layer.up, layer.down)
        mixed = mixture(node, layer, layer.experts, self._weights)
        if layer.experts.shared is None:
            return mixed
        return ops.add(mixed, self._shared(node, layer.experts.shared))

    def _gated(self, node: ov.Node, gate: Linear, up: Linear, down: Linear) -> ov.Node:
        gates = self.linear(node, gate)
        active = ops.swish(gates) if self._spec.activation == "silu" else ops.gelu(gates, "tanh")
        return self.linear(ops.multiply(active, self.linear(node, up)), down)

    def _shared(self, node: ov.Node, expert: SharedExpertSpec) -> ov.Node:
        """The output of the expert that every token uses, by the token's share of it."""
        output = self._gated(node, expert.gate, expert.up, expert.down)
        if expert.share is None:
            return output
        row = ops.constant(self._file.vector(expert.share).reshape(1, -1))
        return ops.multiply(output, ops.sigmoid(ops.matmul(node, row, False, True)))

    def _added(self, hidden: ov.Node, change: ov.Node) -> ov.Node:
        scale = self._spec.residual_scale
        return ops.add(hidden, change if scale == 1.0 else ops.multiply(change, np.float32(scale)))
