"""Builds the OpenVINO graph of an encoder from a Hugging Face folder: vectors of tokens, or scores of texts."""

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.encoder_export import IDS, MASK, TYPES

from .bert import bert_hidden
from .config import FAMILIES, EncoderConfig
from .layers import Layers, first_token
from .modern_bert import modern_bert_hidden
from .weights import FolderWeights


def encoder_graph(folder: Path, config: EncoderConfig, *, scores: bool) -> ov.Model:
    """The graph of float32 [texts, tokens, hidden], or, with `scores`, of the outputs of its head [texts, labels].

    Raises FailedPrecondition for weights that do not fit config.json.
    """
    layers = Layers(config, FolderWeights(folder, (FAMILIES[config.family], "model.")))
    ids, mask, types = (ops.parameter([-1, -1], np.int32, name) for name in (IDS, MASK, TYPES))
    try:
        modern = config.family == "modernbert"
        hidden = modern_bert_hidden(layers, ids, mask) if modern else bert_hidden(layers, ids, mask, types)
        output = _scores(layers, hidden, mask) if scores else hidden
        model = ov.Model([output], [ids, mask, types], config.family)
    except (RuntimeError, IndexError) as error:
        raise FailedPrecondition(
            f"the weights do not fit config.json: {str(error).splitlines()[-1]}", reason="MODEL_NOT_SUPPORTED"
        ) from error
    for node, name in ((ids, IDS), (mask, MASK), (types, TYPES)):
        node.output(0).set_names({name})
    return model


def _scores(layers: Layers, hidden: ov.Node, mask: ov.Node) -> ov.Node:
    """The head of a sequence classifier: [texts, labels]."""
    match layers.config.family:
        case "bert":
            pooled = layers.activate(layers.linear(first_token(hidden), "pooler.dense"), "tanh")
            return layers.linear(pooled, "classifier")
        case "distilbert":
            pooled = layers.activate(layers.linear(first_token(hidden), "pre_classifier"), "relu")
            return layers.linear(pooled, "classifier")
        case "modernbert":
            raw = layers.config.raw
            pooled = layers.linear(_modern_pooled(layers, hidden, mask), "head.dense")
            pooled = layers.activate(pooled, str(raw.get("classifier_activation", "gelu")))
            return layers.linear(layers.norm(pooled, "head.norm"), "classifier")
        case family:
            activation = "gelu" if family == "electra" else "tanh"
            pooled = layers.activate(layers.linear(first_token(hidden), "classifier.dense"), activation)
            return layers.linear(pooled, "classifier.out_proj")


def _modern_pooled(layers: Layers, hidden: ov.Node, mask: ov.Node) -> ov.Node:
    if layers.config.raw.get("classifier_pooling", "cls") == "cls":
        return first_token(hidden)
    shares = ops.unsqueeze(ops.convert(mask, "f32"), np.int64(2))
    axis = np.array([1], np.int64)
    return ops.divide(ops.reduce_sum(ops.multiply(hidden, shares), axis), ops.reduce_sum(shares, axis))
