"""Kokoro with its real weights: what eSpeak NG writes, and speech that is as long and as varied as speech is."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker.speaking.espeak import Espeak
from infermesh_worker.speaking.interface import SAMPLE_RATE
from infermesh_worker_cpu.build import build as build_cpu
from tests.voice_models.real_kokoro import NAME

TEXT = "Ask not what your country can do for you. Ask what you can do for your country, and do it today."
OPTIONS = {"verify": "never", "numerics": "fast", "threads": 2, "device": "cpu", "device_index": 0}
Pieces = dict[int, Array]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak()


@pytest.fixture(scope="module")
def kokoro(models: Path) -> BuiltExecutor:
    built = build_cpu({"folder": str(models / NAME), **OPTIONS})
    assert isinstance(built, BuiltExecutor)
    return built


@pytest.fixture(scope="module")
def spoken(kokoro: BuiltExecutor) -> Pieces:
    return speak(kokoro, TEXT)


def speak(built: BuiltExecutor, text: str, **params: Any) -> Pieces:
    pieces: Pieces = {}

    def emit(part: Result) -> None:
        pieces[part.params["piece"]] = part.tensors["samples"]

    given = {"text": text, "voice": "", "speed": 1.0, "language": "", "delivered_pieces": 0, **params}
    (outcome,) = built.executor.run([Item(params=given, emit=emit)])
    assert isinstance(outcome, Result)
    return pieces


def seconds(pieces: Pieces) -> float:
    return sum(map(len, pieces.values())) / SAMPLE_RATE


def spectrum(sound: Array) -> Array:
    """Power of each frequency [frames, 513]."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256]
    found: Array = np.abs(np.fft.rfft(frames * np.hanning(1024))) ** 2 + 1e-9
    return found


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("It was 5.20 today, at 10:30.", "ɪt wʌz fˈIv pYnt tˈu zˈiəɹO tədˈA, æt tˈɛn θˈɜɹTi."),
        ("Dr. Smith (or «Mrs.» Jones)…", "dˈɑktəɹ smˈɪθ (ɔɹ “mˈɪsɪz” ʤˈOnz)…"),
        ("Hello\tthere!\x00\n", "həlˈO ðˈɛɹ!"),
        (" ... ", "..."),
        ("", ""),
    ],
)
def test_phonemes_keep_numbers_titles_and_marks(espeak: Espeak, text: str, phonemes: str) -> None:
    assert espeak.phonemes(text, "en-us") == phonemes


def test_other_languages_have_phonemes_of_their_own(espeak: Espeak) -> None:
    assert espeak.phonemes("¿Qué tal?", "es") == "¿kˈe tˈal?"
    assert espeak.phonemes("दुनिया।", "hi").endswith(".")
    said = {language: espeak.phonemes("no", language) for language in ("en-us", "en-gb", "fr-fr", "it", "pt-br")}
    assert len(set(said.values())) == len(said)


@pytest.mark.parametrize("text", ["a" * 60_000, " " * 60_000 + "a", "Dr." * 20_000, "1." * 30_000, ", " * 30_000])
def test_hostile_texts_have_their_phonemes_soon(espeak: Espeak, text: str) -> None:
    begin_s = time.process_time()
    assert espeak.phonemes(text, "en-us")
    assert time.process_time() - begin_s < 5


def test_speech_is_as_long_as_speech_is(spoken: Pieces, kokoro: BuiltExecutor) -> None:
    assert [*spoken] == [0, 1]
    assert 10 < len(TEXT) / seconds(spoken) < 25
    quick = speak(kokoro, TEXT, speed=1.5)
    assert seconds(spoken) / seconds(quick) == pytest.approx(1.5, rel=0.15)


def test_speech_is_no_noise(spoken: Pieces) -> None:
    sound = np.concatenate([*spoken.values()])
    assert 0.1 < np.abs(sound).max() <= 1
    power = spectrum(sound)
    loud = power[power.sum(axis=1) > np.quantile(power.sum(axis=1), 0.5)]
    flatness = np.exp(np.log(loud).mean(axis=1)) / loud.mean(axis=1)
    noise = spectrum(np.random.default_rng(1).standard_normal(SAMPLE_RATE).astype(np.float32))
    noise_flatness = np.exp(np.log(noise).mean(axis=1)) / noise.mean(axis=1)
    assert flatness.mean() < 0.1
    assert noise_flatness.mean() > 0.5


def test_the_same_text_sounds_the_same_and_goes_on_alike(spoken: Pieces, kokoro: BuiltExecutor) -> None:
    rest = speak(kokoro, TEXT, delivered_pieces=1)
    assert [*rest] == [1]
    assert np.array_equal(rest[1], spoken[1])


def test_voices_differ_and_can_be_joined(kokoro: BuiltExecutor) -> None:
    said = [speak(kokoro, "Good morning.", voice=voice)[0] for voice in ("af_heart", "bm_george", "af_heart+bm_george")]
    means = [np.log(spectrum(sound)).mean(axis=0) for sound in said]
    assert min(np.abs(one - other).mean() for one, other in pairwise(means)) > 0.1


def test_both_workers_speak_alike(models: Path, kokoro: BuiltExecutor) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from infermesh_worker_xpu.build import build as build_xpu

    other = build_xpu({"folder": str(models / NAME), **OPTIONS})
    assert isinstance(other, BuiltExecutor)
    mine, theirs = (speak(built, "Good morning, everybody.")[0] for built in (kokoro, other))
    assert len(mine) == len(theirs)
    levels = [np.log(spectrum(sound)[:, :200]).ravel() for sound in (mine, theirs)]
    assert np.corrcoef(levels[0], levels[1])[0, 1] > 0.95
