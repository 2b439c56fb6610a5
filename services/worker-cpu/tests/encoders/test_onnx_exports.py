"""ONNX exports of encoders: which output is read, what becomes of their inputs, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_cpu.encoders.build import load_encoder
from infermesh_worker_cpu.encoders.check import check
from infermesh_worker_cpu.infer.compiling import InferOptions
from tests.text_models.folders import import_texts
from tests.text_models.onnx_exports import TABLE, TEXTS, expected, export


def load(folder: Path, kind: Any) -> Any:
    return load_encoder(folder, kind, InferOptions(numerics="exact", threads=1, batched=True), 32, 0)


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
