"""ONNX exports of encoders on onnxruntime: the same vectors and scores as on worker-cpu, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.model_folder import find_model
from infermesh_worker_xpu.encoders.build import load_encoder
from infermesh_worker_xpu.encoders.check import check
from infermesh_worker_xpu.encoders.onnx_encoder import OnnxEncoder
from infermesh_worker_xpu.infer import model_files
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.preflight import footprint
from infermesh_worker_xpu.settings import WorkerXpuSettings
from tests.text_models.folders import import_texts
from tests.text_models.onnx_exports import TABLE, TEXTS, expected, export

OPTIONS = TorchOptions(device="cpu", dtype="fp32", threads=1)


@pytest.mark.parametrize(
    "inputs",
    [
        ("input_ids",),
        ("input_ids", "attention_mask", "token_type_ids"),
        ("input_ids", "attention_mask", "position_ids"),
    ],
)
def test_vectors_of_any_inputs_that_exports_have(inputs: tuple[str, ...], tmp_path: Path) -> None:
    encoder = load_encoder(export(tmp_path / "m", output="last_hidden_state", inputs=inputs), "embed", OPTIONS, 32)
    assert isinstance(encoder, OnnxEncoder)
    assert np.allclose(encoder.embed(TEXTS, "mean"), expected(TEXTS), atol=1e-6)
    assert encoder.info.vocab_size == len(TABLE)
    assert encoder.info.runtime.startswith("onnxruntime ")


def test_scores(tmp_path: Path) -> None:
    encoder = load_encoder(export(tmp_path / "m", output="logits"), "rerank", OPTIONS, 32)
    assert np.allclose(encoder.score(TEXTS), TABLE[TEXTS.ids[:, 0]].sum(1), atol=1e-5)


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no output last_hidden_state or token_embeddings"):
        load_encoder(export(tmp_path / "a", output="logits"), "embed", OPTIONS, 32)
    with pytest.raises(FailedPrecondition, match="takes pixel_values; an encoder takes"):
        load_encoder(export(tmp_path / "b", output="logits", inputs=("pixel_values",)), "rerank", OPTIONS, 32)


def test_an_import_finds_that_both_workers_serve_it(tmp_path: Path) -> None:
    source = export(tmp_path / "m", output="token_embeddings")
    found = check(source, kind="embed", context_length=16, progress=lambda _stage, _fraction: None)
    assert found == {"context_length": 16, "dimensions": TABLE.shape[1]}
    manifest = import_texts(source, tmp_path / "models", "m")
    assert manifest.not_for == ()
    folder = find_model(tmp_path / "models", "m")
    assert footprint(folder, WorkerXpuSettings.model_validate({})) is not None


def test_without_onnxruntime_it_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = export(tmp_path / "m", output="token_embeddings")
    import_texts(source, tmp_path / "models", "m")
    monkeypatch.setattr(model_files, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition, match="needs the package onnxruntime"):
        load_encoder(source, "embed", OPTIONS, 32)
    assert footprint(find_model(tmp_path / "models", "m"), WorkerXpuSettings.model_validate({})) is None
