"""Imported folders give the vectors and scores of sentence-transformers: prompts, pooling, truncation, activation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.manifest.model_manifest import Manifest
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.text_batches import pad
from infermesh_worker.executors.text_executor import unit
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.texts.reading import Limits, TokenisedText, read_pairs, read_texts
from infermesh_worker_cpu.encoders.build import load_encoder
from infermesh_worker_cpu.encoders.encoder import OpenVinoEncoder
from infermesh_worker_cpu.infer.compiling import InferOptions
from tests.text_models.folders import LONGEST, import_texts, tiny_embedder, tiny_reranker

sentence_transformers: Any = pytest.importorskip("sentence_transformers")

TEXTS = ["the cat sat on the mat", "a dog ran", "cat " * 50]
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": LONGEST,
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}


def imported(source: Path, root: Path) -> tuple[Manifest, OpenedModel, OpenVinoEncoder, Limits]:
    manifest = import_texts(source, root, "m")
    opened = OpenedModel.from_folder(ModelFolder.open(root / "m"), {})
    options = InferOptions(numerics="exact", threads=1, batched=True)
    encoder = load_encoder(root / "m", manifest.kind, options, manifest.context_length, 0)
    limits = Limits(
        context_length=manifest.context_length, vocab_size=encoder.info.vocab_size, truncation=pb.TRUNCATION_END
    )
    return manifest, opened, encoder, limits


def joined(texts: Sequence[TokenisedText]) -> Any:
    return pad([(text.ids, np.zeros_like(text.ids) if text.types is None else text.types) for text in texts], 0)


@pytest.mark.parametrize("pooling", ["pooling_mode_mean_tokens", "pooling_mode_cls_token"])
def test_vectors(pooling: str, tmp_path: Path) -> None:
    source = tiny_embedder(tmp_path / "e", pooling=pooling, prompts={"query": "query : "})
    (source / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    reference = sentence_transformers.SentenceTransformer(str(source), device="cpu")
    reference.save(str(tmp_path / "saved"))  # as the installed version writes folders
    for folder in (source, tmp_path / "saved"):
        manifest, opened, encoder, limits = imported(folder, tmp_path / f"models-{folder.name}")
        assert manifest.encoder is not None
        for name, prompt in (("", ""), ("query", "query : ")):
            wanted: Array = reference.encode(TEXTS, **({"prompt_name": name} if name else {}))
            batch = joined(read_texts(opened, TEXTS, prompt, limits))
            got = unit(encoder.embed(batch, manifest.encoder.pooling))
            assert ((got * wanted).sum(1) >= 0.9999).all()


def test_scores(tmp_path: Path) -> None:
    source = tiny_reranker(tmp_path / "r")
    (source / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    reference = sentence_transformers.CrossEncoder(str(source), device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))
    pairs = [("the cat", text) for text in TEXTS]
    wanted: Array = reference.predict(pairs)
    for folder in (source, tmp_path / "saved"):
        manifest, opened, encoder, limits = imported(folder, tmp_path / f"models-{folder.name}")
        assert manifest.encoder is not None
        assert manifest.encoder.activation == "sigmoid"
        raw = encoder.score(joined(read_pairs(opened, pairs, limits)))
        assert np.allclose(1 / (1 + np.exp(-raw)), wanted, atol=1e-4)
