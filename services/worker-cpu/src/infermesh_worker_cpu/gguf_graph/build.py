"""Builds the whole graph of a GGUF file's decoder and saves it as OpenVINO IR."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from infermesh_runtime.gguf_account.account import Account, make_account
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.spec import DecoderSpec, RopeSpec
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_cpu.gguf_graph.attention import Inputs
from infermesh_worker_cpu.gguf_graph.block import Block
from infermesh_worker_cpu.gguf_graph.rope import Rotation, rotation
from infermesh_worker_cpu.gguf_graph.weights import Weights, check_readable
from infermesh_worker_cpu.soft_cap import marks


def save_graph(gguf_file: Path, xml: Path, progress: Callable[[str, float], None]) -> None:
    """Writes the IR of a GGUF file's decoder: stateful, inputs input_ids, position_ids, beam_idx; output logits.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know, and FailedPrecondition
    for an architecture or a type of tensor that cannot be read.
    """
    file = GgufFile(gguf_file)
    spec = account_of(file).spec
    weights = Weights(file)
    model = _model(spec, file, weights, progress)
    progress("writing the OpenVINO graph", 0.9)
    ov.save_model(model, xml, compress_to_fp16=False)


def is_ours(xml: Path) -> bool:
    """Whether save_graph made this IR, not an earlier version's reader of GGUF files."""
    return marks.WINDOWS[1] in xml.read_text(encoding="utf-8")


def account_of(file: GgufFile) -> Account:
    """The account of a file whose decoder can be served; raises as save_graph does."""
    account = make_account(file.contents)
    for name in file.contents.tensors:
        check_readable(name, file.kind(name))
    return account


def _model(spec: DecoderSpec, file: GgufFile, weights: Weights, progress: Callable[[str, float], None]) -> ov.Model:
    inputs = Inputs(
        tokens=_parameter("input_ids", 2, np.int64),
        positions=_parameter("position_ids", 2, np.int64),
        beams=_parameter("beam_idx", 1, np.int32),
    )
    block = Block(spec, file, weights)
    rotations = {rope: _rotation(inputs, rope, file) for rope in {layer.rope for layer in spec.layers} if rope}
    hidden = _embedded(spec, inputs, weights)
    for index, layer in enumerate(spec.layers):
        progress("building the OpenVINO graph", 0.9 * index / len(spec.layers))
        hidden = block.layer(hidden, index, inputs, rotations[layer.rope] if layer.rope else None)
    logits = _capped(spec, block.linear(block.norm(hidden, spec.final_norm), spec.head))
    logits.output(0).set_names({"logits"})
    parameters = [inputs.tokens, inputs.positions, inputs.beams]
    model = ov.Model([ops.result(logits)], inputs.sinks, parameters, spec.architecture)
    marks.mark(model, [layer.window for layer in spec.layers], spec.attention_soft_cap)
    return model


def _embedded(spec: DecoderSpec, inputs: Inputs, weights: Weights) -> ov.Node:
    """The embeddings of the tokens; the head shares the constant when they are tied."""
    table = weights.matrix(Linear(spec.embedding, 0, spec.vocabulary))
    rows = ops.gather(table, ops.convert(inputs.tokens, "i32"), np.int32(0))
    return _scaled(rows, spec.embedding_scale)


def _capped(spec: DecoderSpec, logits: ov.Node) -> ov.Node:
    logits = _scaled(logits, spec.logit_scale)
    if not spec.final_soft_cap:
        return logits
    return _scaled(ops.tanh(_scaled(logits, 1.0 / spec.final_soft_cap)), spec.final_soft_cap)


def _scaled(node: ov.Node, scale: float) -> ov.Node:
    return node if scale == 1.0 else ops.multiply(node, np.float32(scale))


def _rotation(inputs: Inputs, rope: RopeSpec, file: GgufFile) -> Rotation:
    return rotation(inputs.positions, rope, file.vector(rope.factors) if rope.factors else None)


def _parameter(name: str, rank: int, dtype: type[np.generic]) -> ov.Node:
    parameter = ops.parameter(ov.PartialShape([-1] * rank), dtype, name=name)
    parameter.output(0).set_names({name})
    return parameter
