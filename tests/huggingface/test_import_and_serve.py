"""A Hugging Face folder that `infermesh models import` converts gives the same logits as transformers.

It runs in a venv of its own (`make test-huggingface`) because optimum-intel brings torch.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from infermesh_engine.runners.runner import Batch
from infermesh_worker_cpu.build_model import build_model

VOCAB = 512
TOKENS = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama of random weights, written by `save_pretrained`, and a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def run_import(source: Path, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("infermesh")),
        "models",
        "import",
        str(source),
        "--name",
        "tiny",
        *options,
    ]
    env = os.environ | {"INFERMESH_MODELS": str(root), "INFERMESH_HOME": str(root.parent / "home")}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def last_logits(folder: Path, ids: np.ndarray) -> np.ndarray:
    model = build_model({"folder": str(folder), "numerics": "exact", "kv_cache_bytes": 32 << 20})
    assert model.eos_token_ids == {1}
    logits = model.runner.run(
        Batch(
            token_ids=ids,
            positions=np.arange(len(ids)),
            past_lens=np.zeros(1, np.int32),
            begins=np.array([0, len(ids)], np.int32),
            blocks=np.zeros(1, np.int32),
            block_begins=np.array([0, 1], np.int32),
            max_context_tokens=len(ids),
            rows=np.array([len(ids) - 1], np.int32),
            inverse_temperatures=np.ones(1, np.float32),
        )
    )
    row = logits.row(0).copy()
    model.runner.close()
    return row


def cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))


@pytest.mark.parametrize(("weights", "similarity"), [("int8", 0.999), ("int4", 0.93)])
def test_an_imported_folder_answers_as_transformers_does(
    source: Path, tmp_path: Path, weights: str, similarity: float
) -> None:
    done = run_import(source, tmp_path, "--weights", weights)
    assert done.returncode == 0, done.stderr
    ids = np.random.default_rng(0).integers(2, 256, TOKENS)
    ours = last_logits(tmp_path / "tiny", ids)
    with torch.no_grad():
        theirs = LlamaForCausalLM.from_pretrained(source)(torch.tensor(ids[None])).logits[0, -1].numpy()
    assert cosine(ours, theirs) > similarity
    manifest = json.loads((tmp_path / "tiny" / "infermesh.json").read_text())
    assert manifest["tools"].keys() >= {"optimum-intel", "nncf", "transformers", "torch", "openvino"}
    assert "Warning" not in done.stderr


def test_an_imported_gemma_2_keeps_the_soft_cap_that_its_export_loses(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gemma2"
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=8,
        attn_logit_softcapping=1.0,
        query_pre_attn_scalar=1,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        attn_implementation="eager",  # transformers' sdpa leaves the cap out
    )
    theirs = Gemma2ForCausalLM(config).eval()
    theirs.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    done = run_import(folder, tmp_path / "models", "--weights", "int8")
    assert done.returncode == 0, done.stderr
    ids = np.random.default_rng(0).integers(2, 256, TOKENS)
    ours = last_logits(tmp_path / "models" / "tiny", ids)

    def similarity(cap: float | None) -> float:
        for layer in theirs.model.layers:
            layer.self_attn.attn_logit_softcapping = cap
        with torch.no_grad():
            return cosine(ours, theirs(torch.tensor(ids[None])).logits[0, -1].numpy())

    assert similarity(1.0) > 0.99 > similarity(None)


def test_weights_that_the_files_lack_are_not_made_up(source: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(source, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    done = run_import(broken, tmp_path / "models")
    assert done.returncode == 1
    assert "its files lack the tensor model.norm.weight" in done.stderr


def test_int4_is_smaller_than_int8(source: Path, tmp_path: Path) -> None:
    sizes = {}
    for weights in ("int8", "int4"):
        assert run_import(source, tmp_path / weights, "--weights", weights).returncode == 0
        sizes[weights] = (tmp_path / weights / "tiny" / "openvino" / "openvino_model.bin").stat().st_size
    assert sizes["int4"] < sizes["int8"] * 0.8


def test_a_folder_that_optimum_cannot_export_is_one_clear_line(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in source.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "no_such_architecture"}))
    done = run_import(broken, tmp_path / "models")
    assert done.returncode == 1
    assert "optimum-intel cannot export this model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models" / "tiny").exists()
