"""The graphs of encoders: the vectors and scores of transformers for each family, whatever else is in the batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.text_batches import TextBatch, pad
from infermesh_worker_cpu.encoders.build import load_encoder
from infermesh_worker_cpu.infer.compiling import InferOptions

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.torch

CONTEXT = 160
SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": CONTEXT,
    "num_labels": 1,
    "initializer_range": 0.3,
}
FAMILIES: Mapping[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "electra": {"embedding_size": 16},
    "mpnet": {"pad_token_id": 1},
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24},
    "modernbert": {
        "local_attention": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "classifier_pooling": "mean",
    },
}
LENGTHS = (140, 5, 17)
"""One is longer than any distance that MPNet tells apart."""


def batch(pad_id: int) -> TextBatch:
    random = np.random.default_rng(3)
    ids = [random.integers(3, 60, length).astype(np.int32) for length in LENGTHS]
    return pad([(text, (np.arange(len(text)) >= len(text) // 2).astype(np.int32)) for text in ids], pad_id)


def make(family: str, folder: Path, *, scores: bool, dtype: str = "float32", **fields: Any) -> Any:
    """Saves a random model; returns transformers' own."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, **SMALL | FAMILIES[family] | fields)
    kind = transformers.AutoModelForSequenceClassification if scores else transformers.AutoModel
    model = kind.from_config(config, attn_implementation="eager", dtype=getattr(torch, dtype)).eval()
    model.save_pretrained(folder)
    return model.float()


def torch_output(model: Any, texts: TextBatch) -> Array:
    inputs = {"input_ids": texts.ids, "attention_mask": texts.mask}
    if "type_vocab_size" in model.config.to_dict() and model.config.type_vocab_size > 1:
        inputs["token_type_ids"] = texts.types
    with torch.inference_mode():
        found: Array = model(**{name: torch.from_numpy(array.astype(np.int64)) for name, array in inputs.items()})[
            0
        ].numpy()
    return found


def cosines(one: Array, other: Array) -> Array:
    found: Array = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    return found


def load(folder: Path, kind: Any, numerics: Any = "exact") -> Any:
    return load_encoder(folder, kind, InferOptions(numerics=numerics, threads=1, batched=True), CONTEXT, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make(family, tmp_path, scores=False)
    encoder = load(tmp_path, "embed")
    texts = batch(encoder.pad_id)
    hidden = torch_output(model, texts)
    for pooling, wanted in (
        ("cls", hidden[:, 0]),
        ("last", hidden[range(3), np.array(LENGTHS) - 1]),
        ("mean", np.stack([row[:length].mean(0) for row, length in zip(hidden, LENGTHS, strict=True)])),
    ):
        got = encoder.embed(texts, pooling)
        assert got.dtype == np.float32
        assert np.allclose(got, wanted, rtol=1e-3, atol=1e-4), pooling
        assert (cosines(got, wanted) >= 0.9999).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make(family, tmp_path, scores=True)
    encoder = load(tmp_path, "rerank")
    texts = batch(encoder.pad_id)
    assert np.allclose(encoder.score(texts), torch_output(model, texts)[:, 0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision_are_read(dtype: str, tmp_path: Path) -> None:
    model = make("bert", tmp_path, scores=False, dtype=dtype)
    texts = batch(0)
    assert np.allclose(load(tmp_path, "embed").embed(texts, "cls"), torch_output(model, texts)[:, 0], atol=1e-4)


def test_a_graph_refuses_what_it_cannot_build(tmp_path: Path) -> None:
    make("bert", tmp_path, scores=False)
    config = json.loads((tmp_path / "config.json").read_text())
    for field, value, problem in (
        ("model_type", "t5", "of the type t5"),
        ("position_embedding_type", "relative_key", "positions are relative_key"),
        ("hidden_act", "mish", "activation is mish"),
        ("num_hidden_layers", 4, r"no tensor encoder\.layer\.3"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
        with pytest.raises(FailedPrecondition, match=problem):
            load(tmp_path, "embed")
