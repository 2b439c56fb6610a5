"""Builds the graph of Whisper's decoder, whose state is the keys and values of the tokens that it has read."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker_cpu.encoders.weights import FolderWeights

from .encoder_graph import KEYS, VALUES
from .layers import Layers

IDS, PLACES = "ids", "places"
"""Names of the inputs: int64 [1, tokens], and int64 [n], the tokens after which logits are wanted."""
LOGITS, LOOKS = "logits", "looks"
"""Names of the outputs: float32 [n, vocabulary], and, before the softmax, what the alignment heads look at: float32
[heads, tokens, frames]."""


def decoder_graph(config: SpeechConfig, weights: FolderWeights) -> ov.Model:
    """The graph; each inference request has a state of its own. Raises RuntimeError for weights that do not fit."""
    return _Decoder(config, weights).model()


class _Decoder:
    def __init__(self, config: SpeechConfig, weights: FolderWeights) -> None:
        self._config = config
        self._weights = weights
        self._made = Layers(
            weights, activation=config.activation, hidden_size=config.hidden_size, heads=config.decoder_heads
        )
        self._inputs: list[ov.Node] = []
        self._kept: list[ov.Node] = []
        self._looks: list[ov.Node] = []

    def model(self) -> ov.Model:
        table = ops.constant(self._weights.get("decoder.embed_tokens.weight"))
        ids, places = self._input(IDS, [1, -1], np.int64), self._input(PLACES, [-1], np.int64)
        first = None
        node = ops.gather(table, ids, np.int64(0))
        for index in range(self._config.decoder_layers):
            past = [self._past(f"{name}_{index}") for name in ("key", "value")]
            if first is None:
                first = self._positions(ids, past[0])
                rows = ops.gather(ops.constant(self._weights.get("decoder.embed_positions.weight")), first, np.int64(0))
                node = ops.add(node, rows)
                mask = self._mask(first)
            node = self._layer(node, index, past, mask)
        hidden = ops.gather(self._made.norm(node, "decoder.layer_norm"), places, np.int64(1))
        head = ops.constant(self._weights.get("proj_out.weight")) if self._weights.has("proj_out.weight") else table
        logits = ops.squeeze(ops.matmul(hidden, head, False, True), np.int64(0))
        looks = ops.squeeze(ops.concat(self._looks, 1), np.int64(0))
        logits.output(0).set_names({LOGITS})
        looks.output(0).set_names({LOOKS})
        results = [ops.result(logits), ops.result(looks)]
        return ov.Model(results, self._kept, self._inputs, "whisper_decoder")

    def _input(self, name: str, shape: list[int], dtype: type) -> ov.Node:
        node = ops.parameter(shape, dtype, name)
        node.output(0).set_names({name})
        self._inputs.append(node)
        return node

    def _past(self, name: str) -> ov.Node:
        """Keys or values of the tokens that have been read; at first, there are none."""
        made = self._made
        none: Array = np.zeros((1, made.heads, 0, made.head_size), np.float32)
        shape = ov.PartialShape([1, made.heads, -1, made.head_size])
        return ops.read_value(ops.constant(none), name, ov.Type.f32, shape)

    def _positions(self, ids: ov.Node, past: ov.Node) -> ov.Node:
        """int64 [tokens]."""
        read = ops.gather(ops.shape_of(past), np.int64(2), np.int64(0))
        count = ops.gather(ops.shape_of(ids), np.int64(1), np.int64(0))
        return ops.range(read, ops.add(read, count), np.int64(1), output_type="i64")

    def _mask(self, positions: ov.Node) -> ov.Node:
        """Which tokens each one sees: boolean [tokens, all tokens]."""
        last = ops.reduce_max(positions, np.array([0], np.int64), keep_dims=False)
        every = ops.range(np.int64(0), ops.add(last, np.int64(1)), np.int64(1), output_type="i64")
        return ops.less_equal(ops.unsqueeze(every, np.int64(0)), ops.unsqueeze(positions, np.int64(1)))

    def _layer(self, node: ov.Node, index: int, past: list[ov.Node], mask: ov.Node) -> ov.Node:
        made, layer = self._made, f"decoder.layers.{index}"
        normed = made.norm(node, f"{layer}.self_attn_layer_norm")
        query, key, value = (
            made.split_heads(made.linear(normed, f"{layer}.self_attn.{name}_proj")) for name in ("q", "k", "v")
        )
        key, value = (ops.concat(list(pair), 2) for pair in zip(past, (key, value), strict=True))
        self._kept += [ops.assign(key, f"key_{index}"), ops.assign(value, f"value_{index}")]
        mixed = made.join_heads(ops.scaled_dot_product_attention(query, key, value, mask, causal=False))
        node = ops.add(node, made.linear(mixed, f"{layer}.self_attn.out_proj"))
        node = ops.add(node, self._heard(node, index))
        return made.feed_forward(node, layer)

    def _heard(self, node: ov.Node, index: int) -> ov.Node:
        """What the layer hears of the window."""
        made, layer = self._made, f"decoder.layers.{index}"
        query = made.split_heads(
            made.linear(made.norm(node, f"{layer}.encoder_attn_layer_norm"), f"{layer}.encoder_attn.q_proj")
        )
        sizes = (made.head_size, self._config.frames)
        keys = self._input(KEYS.format(index), [1, made.heads, *sizes], np.float32)
        values = self._input(VALUES.format(index), [1, made.heads, *reversed(sizes)], np.float32)
        scores = ops.matmul(ops.multiply(query, np.float32(made.head_size**-0.5)), keys, False, False)
        if heads := [head for place, head in self._config.alignment_heads if place == index]:
            self._looks.append(ops.gather(scores, np.array(heads, np.int64), np.int64(1)))
        mixed = made.join_heads(ops.matmul(ops.softmax(scores, -1), values, False, False))
        return made.linear(mixed, f"{layer}.encoder_attn.out_proj")
