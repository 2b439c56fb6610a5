"""Makes ONNX exports of the smallest encoders there are: vectors are looked up by token id."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.text_batches import TextBatch, pad
from tests.text_models.folders import tokenizer

TABLE = np.random.default_rng(0).standard_normal((25, 6)).astype(np.float32)
SIDES: list[str | int | None] = ["texts", "tokens"]
TEXTS = pad([(np.array(ids, np.int32), np.zeros(len(ids), np.int32)) for ids in ([2, 5, 3], [2, 3])], 0)


def export(folder: Path, *, output: str, inputs: tuple[str, ...] = ("input_ids", "attention_mask")) -> Path:
    """A model that looks vectors up by token id, or, as "logits", the sum over the first token's vector."""
    (folder / "onnx").mkdir(parents=True)
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, SIDES) for name in inputs]
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["vectors"])]
    shape: list[str | int | None] = [*SIDES, 6]
    if output == "logits":
        shape = ["texts", 1]
        nodes += [
            helper.make_node("Gather", ["vectors", "zero"], ["first"], axis=1),
            helper.make_node("ReduceSum", ["first", "one"], ["logits"], keepdims=1),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["vectors"], [output]))
    weights = [
        numpy_helper.from_array(array, name)
        for name, array in (("table", TABLE), ("zero", np.array(0)), ("one", np.array([1])))
    ]
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "export", given, made, weights)
    save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "onnx/model.onnx"
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 25, "pad_token_id": 0}))
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def expected(texts: TextBatch) -> Array:
    return np.stack([TABLE[ids[mask == 1]].mean(0) for ids, mask in zip(texts.ids, texts.mask, strict=True)])
