"""Sound comes back from every format, at any rate and however it is cut into pieces."""

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from infermesh_router.audio.encoders import CONTENT_TYPES, PCM_RATE, sound_encoder
from infermesh_router.audio.schema import SoundFormat
from infermesh_runtime.tensors import Array

FORMATS: list[Any] = list(CONTENT_TYPES)
SECONDS = 1.5


def tone(rate: int) -> Array:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(SECONDS * rate)) / rate)).astype(np.float32)


def encoded(format_: SoundFormat, rate: int, *pieces: Array) -> bytes:
    encoder = sound_encoder(format_, rate)
    return b"".join([*(encoder.add(piece) for piece in pieces), encoder.end()])


def decoded(format_: SoundFormat, data: bytes) -> tuple[Array, int]:
    if format_ == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32_767, PCM_RATE
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples, rate


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100])
@pytest.mark.parametrize("format_", FORMATS)
def test_a_tone_comes_back(format_: SoundFormat, rate: int) -> None:
    whole = tone(rate)
    samples, found = decoded(format_, encoded(format_, rate, *np.array_split(whole, 7)))
    assert len(samples) / found == pytest.approx(SECONDS, abs=0.13)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * found / len(samples) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(samples[len(samples) // 4 : -len(samples) // 4] ** 2)) == pytest.approx(0.354, abs=0.03)


@pytest.mark.parametrize("format_", FORMATS)
def test_how_it_is_cut_changes_nothing(format_: SoundFormat) -> None:
    whole = tone(PCM_RATE)
    one, _ = decoded(format_, encoded(format_, PCM_RATE, whole))
    many, _ = decoded(format_, encoded(format_, PCM_RATE, *np.array_split(whole, 50)))
    assert np.array_equal(one, many)


@pytest.mark.parametrize("format_", ["mp3", "wav", "pcm", "opus"])
def test_it_comes_while_it_is_made(format_: SoundFormat) -> None:
    encoder = sound_encoder(format_, PCM_RATE)
    sizes = [len(encoder.add(piece)) for piece in np.array_split(np.tile(tone(PCM_RATE), 4), 4)]
    assert sum(size > 0 for size in sizes) >= 3


@pytest.mark.parametrize("format_", FORMATS)
def test_silence_and_nothing_are_files_too(format_: SoundFormat) -> None:
    samples, _ = decoded(format_, encoded(format_, PCM_RATE, np.zeros(PCM_RATE, np.float32)))
    assert np.abs(samples).max() < 1e-3
    assert isinstance(encoded(format_, PCM_RATE), bytes)


def test_samples_out_of_range_do_not_wrap() -> None:
    samples, _ = decoded("wav", encoded("wav", PCM_RATE, np.array([2.0, -2.0, 0.5], np.float32)))
    assert samples == pytest.approx([1.0, -1.0, 0.5], abs=1e-3)
