"""Turns a sound file into samples: WAV, FLAC, MP3 and OGG of any rate and any number of channels."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import soundfile
import soxr

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array

RATE = 16_000
"""Samples a second of what is returned."""
MOST_S = 2 * 3600
"""The longest sound, in seconds; its samples take 460 MB."""
_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})
_RATES = range(1_000, 768_001)
_BLOCK = 1 << 18
"""Numbers that are decoded at a time, of all channels together."""
FIELD = "audio"


def decode(
    file: bytes,
    *,
    most_s: float = MOST_S,
    alive: Callable[[], None] = lambda: None,
    grow: Callable[[float], None] = lambda _: None,
) -> Array:
    """The sound in a file: FP32 [samples], RATE a second, the mean of its channels, in [-1, 1].

    Raises InvalidArgument for a file that cannot be read, that holds no sound, or more than `most_s` seconds. No more
    is decoded than that, whatever the file says of itself. `alive` is called again and again meanwhile, and `grow` with
    how many seconds are about to be decoded in all; they may raise.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(file)) as opened:
            _check(opened)
            pieces = list(_resampled(opened, most_s, alive, grow))
    except (soundfile.LibsndfileError, EOFError) as error:
        raise _refusal(f"the sound file cannot be read: {_reason(error)}; expected WAV, FLAC, MP3 or OGG") from error
    samples = _joined(pieces)
    if not samples.size:
        raise _refusal("the sound file holds no sound")
    return samples


def check_samples(samples: Array, *, most_s: float = MOST_S) -> Array:
    """The same for a sound that is given as samples. Raises InvalidArgument."""
    if samples.size == 0:
        raise InvalidArgument("there are no samples", fields={"samples": "is empty"})
    if samples.size > most_s * RATE:
        message = f"the sound is {samples.size / RATE:.0f} s long; the limit is {most_s:g} s"
        raise InvalidArgument(message, fields={"samples": message})
    return _sound(samples.reshape(-1))


def _check(opened: soundfile.SoundFile) -> None:
    if opened.format not in _FORMATS:
        raise _refusal(f"the sound file is of the format {opened.format}; expected WAV, FLAC, MP3 or OGG")
    if opened.samplerate not in _RATES:
        raise _refusal(
            f"the sound file has {opened.samplerate} samples a second; expected {_RATES[0]:,} to {_RATES[-1]:,}"
        )


def _resampled(
    opened: soundfile.SoundFile, most_s: float, alive: Callable[[], None], grow: Callable[[float], None]
) -> Iterator[Array]:
    """Its samples piece by piece, as they are decoded."""
    stream = soxr.ResampleStream(opened.samplerate, RATE, 1, dtype="float32")
    same = opened.samplerate == RATE
    frames, most_frames = 0, int(most_s * opened.samplerate)
    for block in _blocks(opened):
        alive()
        frames += len(block)
        if frames > most_frames:
            raise _refusal(f"the sound is longer than {most_s:g} s, which is the limit")
        grow(frames / opened.samplerate)
        mono = _sound(block.mean(axis=1, dtype=np.float32))
        yield mono if same else _sound(stream.resample_chunk(mono))
    if not same and frames:
        yield _sound(stream.resample_chunk(np.zeros(0, np.float32), last=True))


def _blocks(opened: soundfile.SoundFile) -> Iterator[Array]:
    """FP32 [frames, channels], until there are no more."""
    size = max(1, _BLOCK // opened.channels)
    while len(block := opened.read(size, dtype="float32", always_2d=True)):
        yield block


def _joined(pieces: list[Array]) -> Array:
    """All pieces as one array. Each is freed when it is copied, so that a sound never takes its memory twice."""
    samples = np.empty(sum(map(len, pieces)), np.float32)
    end = len(samples)
    while pieces:
        piece = pieces.pop()
        samples[end - len(piece) : end] = piece
        end -= len(piece)
    return samples


def _sound(samples: Array) -> Array:
    """Samples in [-1, 1]; a file of floating-point numbers may hold any."""
    kept: Array = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).astype(np.float32, copy=False)
    return np.clip(kept, -1.0, 1.0, out=kept)  # a copy already


def _refusal(message: str) -> InvalidArgument:
    return InvalidArgument(f"{message[:1].upper()}{message[1:]}.", fields={FIELD: message})


def _reason(error: Exception) -> str:
    """libsndfile's own words, without its prefix."""
    words = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
    return words.partition("Error : ")[2] or words or type(error).__name__
