"""A BERT gives the vectors that numpy gives, in both numerics, and whatever else is in the batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh_worker.executors.text_batches import pad
from infermesh_worker_cpu.encoders.build import load_encoder
from infermesh_worker_cpu.infer.compiling import InferOptions
from tests.text_models.folders import tiny_embedder
from tests.text_models.numpy_bert import hidden_of


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_vectors_are_those_of_numpy(numerics: Any, tmp_path: Path) -> None:
    folder = tiny_embedder(tmp_path / "e")
    options = InferOptions(numerics=numerics, threads=1, batched=True)
    encoder = load_encoder(folder, "embed", options, 32, 0)
    random = np.random.default_rng(5)
    texts = [random.integers(2, 25, length).astype(np.int32) for length in (30, 3, 12, 1)]
    types = [random.integers(0, 2, len(text)).astype(np.int32) for text in texts]
    got = encoder.embed(pad(list(zip(texts, types, strict=True)), 0), "mean")
    wanted = np.stack([hidden_of(folder, text, kind).mean(0) for text, kind in zip(texts, types, strict=True)])
    cosine = (got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    assert (cosine >= 0.9999).all()
    if numerics == "exact":
        assert np.allclose(got, wanted, atol=1e-5)
