"""Reads a saved OpenVINO IR and adds paged attention and the outputs that the sampler needs."""

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino._offline_transformations import paged_attention_transformation

from infermesh_engine.runners.runner import CANDIDATES
from infermesh_worker_cpu.soft_cap import marks
from infermesh_worker_cpu.soft_cap.attention import cap_scores
from infermesh_worker_cpu.soft_cap.folders import read_folder

INPUTS = (
    "input_ids",
    "position_ids",
    "past_lens",
    "subsequence_begins",
    "block_indices",
    "block_indices_begins",
    "max_context_len",
    "rows",
    "inverse_temperatures",
)
"""Inputs that every step sets: those of the transformation, and two that `read` adds. KV caches are bound once."""

OUTPUTS = ("logits", "top_ids", "top_logits", "scaled_logsumexp")


_WINDOW_INPUT = 10
"""The input of PagedAttentionExtension that says how many tokens a token attends to; 0: all."""


class NotPageableError(ValueError):
    """The IR is not a decoder whose KV state the paged-attention transformation recognises."""


def read(core: ov.Core, xml: Path, *, capped_kv: ov.Type = ov.Type.f32) -> ov.Model:
    """Reads the IR of a stateful decoder; returns it with paged attention and the outputs named in OUTPUTS.

    `capped_kv`: the type of the KV cache if attention has a soft cap; otherwise the plugin chooses it.

    Additional inputs: rows int32 [R] (which tokens' logits are wanted) and inverse_temperatures float32 [R].
    Outputs: logits float32 [R, vocab]; top_ids int32 and top_logits float32 [R, min(CANDIDATES, vocab)], largest first;
    scaled_logsumexp float32 [R], log Σ exp(logits × inverse_temperatures).

    A graph exported from a Hugging Face folder is read with that folder's config.json, which is beside the graph's
    folder. Raises NotPageableError, and FailedPrecondition for a soft cap that we cannot apply.
    """
    model = core.read_model(xml)
    names = {name for output in model.inputs for name in output.get_names()}
    if not {"input_ids", "beam_idx"} <= names or not model.get_sinks():
        raise NotPageableError(
            f"{xml} is not a stateful decoder with inputs input_ids and beam_idx: its inputs are {sorted(names)}"
        )
    windows, soft_cap = marks.windows_of(model), marks.soft_cap_of(model)
    if windows is None and (found := read_folder(xml.parent.parent)) is not None:
        windows, soft_cap = found
    paged_attention_transformation(model)
    if soft_cap and windows is not None:
        if cap_scores(model, soft_cap, windows, capped_kv) != len(windows):
            raise NotPageableError(f"{xml} has attention with a soft cap in a form that is not recognised")
    elif windows is not None:
        _limit_attention(model, windows)
    _gather_rows_before_head(model)
    _add_sampling_outputs(model)
    model.validate_nodes_and_infer_types()
    return model


def _limit_attention(model: ov.Model, windows: list[int]) -> None:
    """Gives paged attention the windows that the IR names; the transformation keeps them for a few graphs only."""
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "PagedAttentionExtension"]
    for node in layers:
        layer = int(node.input_value(3).get_any_name().removeprefix("key_cache."))
        node.input(_WINDOW_INPUT).replace_source_output(ops.constant(np.int32(windows[layer])).output(0))


def _gather_rows_before_head(model: ov.Model) -> None:
    """Selects the wanted rows before the last MatMul, which is the most expensive one of a prefill."""
    head = _head(model.get_results()[0].input_value(0).get_node())
    hidden = head.input_value(0)
    rows = _parameter(model, "rows", np.int32)
    flat = ops.reshape(
        hidden, np.array([-1, hidden.get_partial_shape()[-1].get_length()], np.int64), special_zero=False
    )
    head.input(0).replace_source_output(ops.gather(flat, rows, np.int32(0)).output(0))


def _head(node: ov.Node) -> ov.Node:
    """Walks up from the result to the MatMul that computes the logits; scaling and soft-capping may come in between."""
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    return node


def _add_sampling_outputs(model: ov.Model) -> None:
    result = model.get_results()[0]
    inverse_temperatures = _parameter(model, "inverse_temperatures", np.float32)
    model.validate_nodes_and_infer_types()
    source = result.input_value(0)
    vocab = source.get_partial_shape()[-1].get_length()
    logits = ops.reshape(ops.convert(source, "f32"), np.array([-1, vocab], np.int64), special_zero=False)
    top = ops.topk(logits, np.int32(min(CANDIDATES, vocab)), 1, "max", "value", "i32")
    scale = ops.unsqueeze(inverse_temperatures, np.int32(1))
    scaled_largest = ops.multiply(ops.slice(top.output(0), [0], [1], [1], [1]), scale)
    # The largest probability is exp(largest − log Σ exp), so a softmax gives log Σ exp; it is faster than summing exps.
    largest_probability = ops.reduce_max(ops.softmax(ops.multiply(logits, scale), 1), np.int32(1))
    scaled_logsumexp = ops.subtract(ops.squeeze(scaled_largest, np.int32(1)), ops.log(largest_probability))
    outputs = (logits.output(0), top.output(1), top.output(0), scaled_logsumexp.output(0))
    model.remove_result(result)
    for name, output in zip(OUTPUTS, outputs, strict=True):
        output.set_names({name})
        model.add_results([ops.result(output)])


def _parameter(model: ov.Model, name: str, dtype: type[np.generic]) -> ov.Node:
    parameter = ops.parameter(ov.PartialShape([-1]), dtype, name=name)
    parameter.output(0).set_names({name})
    model.add_parameters([parameter])
    return parameter
