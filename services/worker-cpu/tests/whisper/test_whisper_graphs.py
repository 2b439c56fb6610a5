"""Whisper on OpenVINO: the tokens and times of transformers' own generate, for short and long sounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from infermesh_worker.speech.config import read_speech_config
from infermesh_worker.speech.features import Features
from infermesh_worker_cpu.infer.compiling import InferOptions
from infermesh_worker_cpu.whisper.build import load_speech
from infermesh_worker_cpu.whisper.session import OpenVinoSpeech
from tests.speech_models.folders import sound, tiny_whisper

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.speech_models import reference as compared  # noqa: E402 - it needs torch

pytestmark = pytest.mark.torch

EXACT = InferOptions(numerics="exact", threads=1, batched=True)


@pytest.fixture(scope="module", params=[8, 11])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny_whisper(tmp_path_factory.mktemp("w") / "tiny", seed=request.param)
    return folder, load(folder), compared.Reference.load(folder)


def load(folder: Path) -> OpenVinoSpeech:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return load_speech(folder, read_speech_config(folder, tokenizer), EXACT, 0)


@pytest.mark.parametrize("seconds", [0.6, 1.0, 3.7])
def test_features_are_those_of_transformers(model: Any, seconds: float) -> None:
    assert compared.largest_difference(sound(seconds), model[2]) < 1e-4


@pytest.mark.parametrize(("seconds", "task"), [(1.0, "translate"), (3.7, "transcribe")])
def test_tokens_and_times_are_those_of_transformers(model: Any, seconds: float, task: str) -> None:
    folder, device, reference = model
    expected = reference.greedy(sound(seconds), language="de", task=task)
    _, segments = compared.ours(device, folder, sound(seconds), language="german", task=task)
    assert expected
    assert compared.as_found(segments, reference.config) == expected


def test_a_prompt_counts_as_said_before(model: Any) -> None:
    folder, device, reference = model
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [reference.config.tokens.previous, *tokenizer.encode(" the thin", add_special_tokens=False).ids]
    expected = reference.greedy(sound(1.0), language="en", task="transcribe", prompt_ids=torch.tensor(ids))
    heard, segments = compared.ours(device, folder, sound(1.0), language="en", prompt="the thin")
    assert compared.as_found(segments, reference.config) == expected
    assert heard.prompt_tokens == len(ids) - 1


def test_the_language_is_the_one_that_transformers_detects(model: Any) -> None:
    folder, device, reference = model
    detected = reference.model.detect_language(reference.features(sound(1.0)))
    heard, _ = compared.ours(device, folder, sound(1.0))
    assert reference.config.tokens.languages[heard.language] == int(detected[0])
    assert 1 / 3 < heard.language_probability < 1
    told, _ = compared.ours(device, folder, sound(1.0), language="Japanese")
    assert (told.language, told.language_probability) == ("ja", 0.0)


def test_what_the_heads_look_at_is_transformers_cross_attention(model: Any) -> None:
    folder, device, reference = model
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
