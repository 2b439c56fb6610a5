"""Encoders and decoders that embed or score, in torch: transformers' own numbers, whatever else is in the batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.text_batches import TextBatch, pad
from infermesh_worker_xpu.encoders.build import load_encoder
from infermesh_worker_xpu.encoders.check import check
from infermesh_worker_xpu.encoders.encoder import TorchEncoder
from infermesh_worker_xpu.options import TorchOptions

SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 24,
    "max_position_embeddings": 80,
    "num_labels": 1,
    "initializer_range": 0.3,
    "pad_token_id": 1,
}
LENGTHS = (40, 5, 17)
EXACT = TorchOptions(device="cpu", numerics="exact", threads=1)


def batch(pad_id: int) -> TextBatch:
    random = np.random.default_rng(3)
    ids = [random.integers(3, 60, length).astype(np.int32) for length in LENGTHS]
    return pad([(text, (np.arange(len(text)) >= len(text) // 2).astype(np.int32)) for text in ids], pad_id)


def make(family: str, folder: Path, kind: Any) -> Any:
    """Saves a random model; returns it."""
    torch.manual_seed(1)
    model = kind.from_config(transformers.AutoConfig.for_model(family, **SMALL)).eval()
    model.save_pretrained(folder)
    return model


def alone(model: Any, texts: TextBatch, row: int) -> Array:
    """transformers' first output for one text without padding."""
    length = LENGTHS[row]
    inputs = {"input_ids": torch.from_numpy(texts.ids[row : row + 1, :length]).long()}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.from_numpy(texts.types[row : row + 1, :length]).long()
    with torch.inference_mode():
        found: Array = model(**inputs)[0][0].numpy()
    return found


def load(folder: Path, kind: Any, options: TorchOptions = EXACT) -> TorchEncoder:
    encoder = load_encoder(folder, kind, options, 80)
    assert isinstance(encoder, TorchEncoder)
    return encoder


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mpnet", "nomic_bert", "qwen3", "llama"])
def test_vectors_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make(family, tmp_path, transformers.AutoModel)
    encoder = load(tmp_path, "embed")
    texts = batch(encoder.pad_id)
    hidden = [alone(model, texts, row) for row in range(3)]
    for pooling, wanted in (
        ("cls", [row[0] for row in hidden]),
        ("last", [row[-1] for row in hidden]),
        ("mean", [row.mean(0) for row in hidden]),
    ):
        got = encoder.embed(texts, pooling)  # type: ignore[arg-type] # the names of Pooling
        assert got.dtype == np.float32
        assert np.allclose(got, np.stack(wanted), rtol=1e-3, atol=1e-4), pooling


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "qwen3"])
def test_scores_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make(family, tmp_path, transformers.AutoModelForSequenceClassification)
    encoder = load(tmp_path, "rerank")
    texts = batch(encoder.pad_id)
    wanted = np.array([alone(model, texts, row)[0] for row in range(3)])
    assert np.allclose(encoder.score(texts), wanted, rtol=1e-3, atol=1e-4)


def test_a_decoders_checkpoint_with_a_head_embeds(tmp_path: Path) -> None:
    whole = make("qwen3", tmp_path, transformers.AutoModelForCausalLM)
    encoder = load(tmp_path, "embed")
    texts = batch(encoder.pad_id)
    wanted = [alone(whole.model, texts, row)[-1] for row in range(3)]
    assert np.allclose(encoder.embed(texts, "last"), np.stack(wanted), rtol=1e-3, atol=1e-4)


def test_bf16_points_the_same_way(tmp_path: Path) -> None:
    make("bert", tmp_path, transformers.AutoModel)
    exact, fast = load(tmp_path, "embed"), load(tmp_path, "embed", TorchOptions(device="cpu", dtype="bf16", threads=1))
    one, other = (encoder.embed(batch(1), "mean") for encoder in (exact, fast))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert (cosine > 0.999).all()


def test_an_import_asks_what_it_reads_and_gives(tmp_path: Path) -> None:
    make("xlm-roberta", tmp_path, transformers.AutoModel)
    found = check(tmp_path, kind="embed", context_length=512, progress=lambda _stage, _fraction: None)
    assert found == {"context_length": 78, "dimensions": 16}  # two of 80 rows stand before the first position


def test_models_that_cannot_be_served_are_refused(tmp_path: Path) -> None:
    make("bert", tmp_path, transformers.AutoModelForSequenceClassification)
    config = json.loads((tmp_path / "config.json").read_text())
    labels = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config | labels))
    with pytest.raises(FailedPrecondition):
        load(tmp_path, "rerank")
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(FailedPrecondition, match="its files lack"):
        load(tmp_path, "embed")
