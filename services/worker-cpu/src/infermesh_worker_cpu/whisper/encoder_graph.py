"""Builds the graph of Whisper's encoder: features of a window in, keys and values for each layer of the decoder out."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker_cpu.encoders.weights import FolderWeights

from .layers import Layers

KEYS, VALUES = "cross_keys_{}", "cross_values_{}"
"""Names of what the encoder gives, and the decoder takes, for a layer: float32 [1, heads, head size, frames], and [1,
heads, frames, head size]. In this order each step multiplies them as they are."""


def encoder_graph(config: SpeechConfig, weights: FolderWeights) -> ov.Model:
    """The graph of float32 [1, mels, frames of a window]. Raises RuntimeError for weights that do not fit."""
    made = Layers(weights, activation=config.activation, hidden_size=config.hidden_size, heads=config.encoder_heads)
    features = ops.parameter([1, config.mels, config.window_frames], np.float32, "features")
    node = made.convolve(features, "encoder.conv1", 1)
    node = ops.transpose(made.convolve(node, "encoder.conv2", 2), np.array([0, 2, 1], np.int64))
    node = ops.add(node, ops.constant(weights.get("encoder.embed_positions.weight")))
    for index in range(config.encoder_layers):
        node = _layer(made, node, f"encoder.layers.{index}")
    heard = made.norm(node, "encoder.layer_norm")
    return ov.Model(_for_decoder(config, weights, heard), [features], "whisper_encoder")


def _layer(made: Layers, node: ov.Node, layer: str) -> ov.Node:
    normed = made.norm(node, f"{layer}.self_attn_layer_norm")
    query, key, value = (
        made.split_heads(made.linear(normed, f"{layer}.self_attn.{name}_proj")) for name in ("q", "k", "v")
    )
    mixed = made.join_heads(ops.scaled_dot_product_attention(query, key, value, causal=False))
    node = ops.add(node, made.linear(mixed, f"{layer}.self_attn.out_proj"))
    return made.feed_forward(node, layer)


def _for_decoder(config: SpeechConfig, weights: FolderWeights, heard: ov.Node) -> list[ov.Output]:
    """What the decoder's layers attend to, computed once a window."""
    made = Layers(weights, activation="", hidden_size=config.hidden_size, heads=config.decoder_heads)
    outputs = []
    for index in range(config.decoder_layers):
        for name, projection in ((KEYS, "k_proj"), (VALUES, "v_proj")):
            node = made.linear(heard, f"decoder.layers.{index}.encoder_attn.{projection}")
            node = made.split_heads(node, turned=name == KEYS)
            node.output(0).set_names({name.format(index)})
            outputs.append(node.output(0))
    return outputs
