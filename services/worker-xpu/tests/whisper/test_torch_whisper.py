"""Whisper in torch: the tokens and times of transformers' own generate, also while other sounds are worked on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speech.config import read_speech_config
from infermesh_worker.speech.features import Features
from infermesh_worker_xpu.build import build
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.preflight import footprint
from infermesh_worker_xpu.settings import WorkerXpuSettings
from infermesh_worker_xpu.whisper.build import load_speech
from tests.speech_models import reference as compared
from tests.speech_models.folders import import_speech, sound, tiny_whisper
from tests.text_models.folders import save_tensors

EXACT = TorchOptions(device="cpu", numerics="exact", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("w") / "tiny", seed=8)


@pytest.fixture(scope="module")
def reference(folder: Path) -> compared.Reference:
    return compared.Reference.load(folder)


@pytest.fixture(scope="module")
def device(folder: Path, reference: compared.Reference) -> Any:
    return load_speech(folder, reference.config, EXACT)


@pytest.mark.parametrize("seconds", [1.0, 3.7])
def test_tokens_and_times_are_those_of_transformers(
    folder: Path, reference: compared.Reference, device: Any, seconds: float
) -> None:
    expected = reference.greedy(sound(seconds), language="ja", task="transcribe")
    _, segments = compared.ours(device, folder, sound(seconds), language="ja", words=True)
    assert expected
    assert compared.as_found(segments, reference.config) == expected


def test_what_the_heads_look_at_is_transformers_cross_attention(
    folder: Path, reference: compared.Reference, device: Any
) -> None:
    config, ids = reference.config, [reference.config.tokens.start, 5, 6, 7]
    eager = type(reference.model).from_pretrained(str(folder), attn_implementation="eager").eval()
    with torch.no_grad():
        answer = eager(reference.features(sound(1.0)), decoder_input_ids=torch.tensor([ids]), output_attentions=True)
    attention = np.stack([answer.cross_attentions[layer][0, head].numpy() for layer, head in config.alignment_heads])
    with device.session() as session:
        session.encode(Features(sound(1.0), config).window(0))
        session.extend([config.tokens.start, 9], [0])  # what was read before must not matter
        logits, looks = session.align(ids)
    assert np.allclose(logits, answer.logits[0].numpy(), atol=1e-4)
    shares = np.exp(looks - looks.max(axis=-1, keepdims=True))
    assert np.allclose(shares / shares.sum(axis=-1, keepdims=True), attention, atol=1e-5)


def test_an_imported_model_answers_several_sounds_at_a_time_as_it_does_one(folder: Path, tmp_path: Path) -> None:
    manifest = import_speech(folder, tmp_path / "models", "tiny")
    assert (manifest.kind, manifest.not_for, manifest.context_length) == ("transcribe", (), 40)
    imported = tmp_path / "models" / "tiny"
    made = build({"folder": str(imported), "verify": "always", "device": "cpu", "numerics": "exact", "threads": 1})
    assert isinstance(made, BuiltExecutor)
    assert made.kind == "transcribe"
    alone = [text_of(made, seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda seed: text_of(made, seed), range(3)))
    assert together == alone
    assert len(set(alone)) == 3
    needed = footprint(ModelFolder.open(imported), WorkerXpuSettings.model_validate({}))
    assert needed is not None
    assert needed.kv_wanted_bytes == 0


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = tiny_whisper(tmp_path / "broken")
    save_tensors(broken / "model.safetensors", {"model.encoder.conv1.bias": np.zeros(32, np.float32)})
    config = read_speech_config(broken, Tokenizer.from_file(str(broken / "tokenizer.json")))
    with pytest.raises(FailedPrecondition, match="lack"):
        load_speech(broken, config, EXACT)


def text_of(made: BuiltExecutor, seed: int) -> str:
    parts: list[Result] = []
    item = Item(
        params={"task": "transcribe", "times": "words", "seed": seed, "temperature": 0.4},
        tensors={"samples": sound(2.3, seed)},
        emit=parts.append,
    )
    (outcome,) = made.executor.run([item])
    assert isinstance(outcome, Result)
    assert outcome.params["duration_s"] == pytest.approx(2.3)
    return "|".join(part.params["segment"]["text"] for part in parts)
