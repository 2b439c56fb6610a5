"""ONNX exports of encoders: which output is read, what becomes of their inputs, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.text_batches import TextBatch, pad
from infermesh_worker_cpu.encoders.build import load_encoder
from infermesh_worker_cpu.encoders.check import check
from infermesh_worker_cpu.infer.compiling import InferOptions
from tests.text_models.folders import import_texts, tokenizer

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


def load(folder: Path, kind: Any) -> Any:
    return load_encoder(folder, kind, InferOptions(numerics="exact", threads=1, batched=True), 32, 0)


def expected(texts: TextBatch) -> Array:
    return np.stack([TABLE[ids[mask == 1]].mean(0) for ids, mask in zip(texts.ids, texts.mask, strict=True)])


@pytest.mark.parametrize(
    "inputs",
    [
        ("input_ids",),
        ("input_ids", "attention_mask"),
        ("input_ids", "attention_mask", "token_type_ids"),
        ("input_ids", "attention_mask", "position_ids"),
    ],
)
def test_vectors_of_any_inputs_that_exports_have(inputs: tuple[str, ...], tmp_path: Path) -> None:
    encoder = load(export(tmp_path / "m", output="last_hidden_state", inputs=inputs), "embed")
    assert np.allclose(encoder.embed(TEXTS, "mean"), expected(TEXTS), atol=1e-6)
    assert encoder.info.vocab_size == 25


def test_scores(tmp_path: Path) -> None:
    encoder = load(export(tmp_path / "m", output="logits"), "rerank")
    assert np.allclose(encoder.score(TEXTS), TABLE[TEXTS.ids[:, 0]].sum(1), atol=1e-5)


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no output last_hidden_state or token_embeddings"):
        load(export(tmp_path / "a", output="logits"), "embed")
    with pytest.raises(FailedPrecondition, match="takes pixel_values; an encoder takes"):
        load(export(tmp_path / "b", output="logits", inputs=("pixel_values",)), "rerank")


def test_an_export_is_imported(tmp_path: Path) -> None:
    source = export(tmp_path / "m", output="token_embeddings")
    manifest = import_texts(source, tmp_path / "models", "m")
    assert (manifest.kind, manifest.format, manifest.context_length) == ("embed", "onnx", 512)
    assert set(manifest.files) == {"config.json", "tokenizer.json", "onnx/model.onnx"}
    assert manifest.encoder is not None
    assert manifest.encoder.dimensions == 6
    encoder = load(tmp_path / "models" / "m", "embed")
    assert np.allclose(encoder.embed(TEXTS, "mean"), expected(TEXTS), atol=1e-6)


def test_numbers_that_are_none_fail_the_import(tmp_path: Path) -> None:
    source = export(tmp_path / "m", output="last_hidden_state")
    graph = source / "onnx/model.onnx"
    graph.write_bytes(graph.read_bytes().replace(TABLE[0].tobytes(), np.full(6, np.nan, np.float32).tobytes()))
    with pytest.raises(FailedPrecondition, match="numbers that are not finite"):
        check(source, kind="embed", context_length=32, progress=lambda _stage, _fraction: None)
