"""Sound files of every format become the same samples, and hostile ones an error in words, at a bounded cost."""

import io

import numpy as np
import pytest
import soundfile

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array
from infermesh_worker.sound.decoding import RATE, check_samples, decode

FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")]
TONE_HZ = 440.0


def tone(seconds: float, rate: int) -> Array:
    times = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * TONE_HZ * times)).astype(np.float32)


def encoded(samples: Array, rate: int, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def pitch_hz(samples: Array) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE / len(samples))


@pytest.mark.parametrize(("container", "subtype"), [*FORMATS, ("OGG", "OPUS")])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (48_000, 2)])
def test_a_tone_stays_the_same_tone(container: str, subtype: str, rate: int, channels: int) -> None:
    given = np.repeat(tone(1.0, rate)[:, None], channels, axis=1)
    heard = decode(encoded(given, rate, container, subtype))
    assert heard.dtype == np.float32
    assert len(heard) == pytest.approx(RATE, rel=0.15 if container == "MP3" else 0.01)
    assert pitch_hz(heard) == pytest.approx(TONE_HZ, abs=2)
    assert heard.std() == pytest.approx(0.5 / np.sqrt(2), abs=0.05)


def test_samples_of_16_khz_are_kept_as_they_are() -> None:
    given = tone(0.25, RATE)
    assert np.array_equal(decode(encoded(given, RATE, subtype="FLOAT")), given)


def test_channels_are_averaged() -> None:
    given = np.stack([np.full(1600, 0.5, np.float32), np.full(1600, -0.25, np.float32)], axis=1)
    assert np.allclose(decode(encoded(given, RATE, subtype="FLOAT")), 0.125)


def test_numbers_that_are_no_sound_become_some() -> None:
    given = np.array([np.nan, np.inf, -np.inf, 1e30, 0.5], np.float32)
    assert decode(encoded(given, RATE, subtype="FLOAT")).tolist() == [0.0, 1.0, -1.0, 1.0, 0.5]
    assert check_samples(given).tolist() == [0.0, 1.0, -1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "cannot be read"),
        (b"not a sound at all, but some text", "cannot be read"),
        (encoded(tone(0.1, RATE), RATE)[:30], "cannot be read"),
        (encoded(np.zeros(0, np.float32), RATE), "no sound"),
        (encoded(tone(0.1, RATE), RATE, "AIFF"), "format AIFF"),
        (encoded(tone(0.1, RATE), 100), "100 samples a second"),
    ],
)
def test_what_cannot_be_heard_is_refused_in_words(file: bytes, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as refused:
        decode(file)
    assert "audio" in refused.value.fields


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
def test_a_sound_that_is_too_long_is_refused_whatever_its_file_says(container: str, subtype: str) -> None:
    file = encoded(np.zeros(20 * RATE, np.float32), RATE, container, subtype)
    with pytest.raises(InvalidArgument, match="longer than 10 s"):
        decode(file, most_s=10)
    assert len(decode(file, most_s=21)) >= 20 * RATE


def test_samples_are_bounded_too() -> None:
    with pytest.raises(InvalidArgument, match="20 s long; the limit is 10 s"):
        check_samples(np.zeros(20 * RATE, np.float32), most_s=10)
    with pytest.raises(InvalidArgument, match="no samples"):
        check_samples(np.zeros(0, np.float32))


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
def test_damaged_files_are_decoded_or_refused(container: str, subtype: str) -> None:
    whole = encoded(tone(0.3, 8_000), 8_000, container, subtype)
    random = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(damaged), 5):
            damaged[place] = random.integers(0, 256)
        try:
            heard = decode(bytes(damaged), most_s=5)
        except InvalidArgument:
            continue
        assert np.isfinite(heard).all()
        assert np.abs(heard).max(initial=0) <= 1


def test_decoding_can_be_ended_between_blocks() -> None:
    def ended() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(encoded(tone(1.0, RATE), RATE), alive=ended)
