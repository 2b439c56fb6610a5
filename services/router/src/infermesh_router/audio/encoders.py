"""Encodes speech as it is made: pieces of sound become the bytes of a file. Its functions block."""

import io
import struct
from typing import Protocol

import numpy as np
import soxr
from soundfile import SoundFile

from infermesh_router.audio.schema import SoundFormat
from infermesh_runtime.tensors import Array

PCM_RATE = 24_000
"""Samples a second of the formats that have a rate of their own."""
CONTENT_TYPES: dict[SoundFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_OPUS_RATES = frozenset({8000, 12_000, 16_000, 24_000, 48_000})
_MP3_RATES = frozenset({8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_MP3_LEVEL = 0.2
"""Of libsndfile, from 0 (largest) to 1: 128 kbit/s at 24,000 samples a second."""
_UNKNOWN = 0xFFFFFFFF
"""As a size in the header of a WAV file that is sent before its length is known."""


class SoundEncoder(Protocol):
    """One file."""

    def add(self, samples: Array) -> bytes:
        """Takes FP32 [samples] in [-1, 1]; what there is of the file beyond what was given before."""
        ...

    def end(self) -> bytes:
        """The rest of the file."""
        ...


def sound_encoder(format_: SoundFormat, rate: int) -> SoundEncoder:
    """An encoder for sound of `rate` samples a second."""
    match format_:
        case "pcm":
            return _Resampled(_Pcm(b""), rate, PCM_RATE)
        case "wav":
            return _Pcm(_wav_header(rate))
        case "flac":
            return _Flac(rate)
        case "opus":
            taken = rate if rate in _OPUS_RATES else PCM_RATE
            return _Resampled(_Streamed("OGG", "OPUS", taken), rate, taken)
        case "mp3":
            taken = rate if rate in _MP3_RATES else PCM_RATE
            return _Resampled(_Streamed("MP3", "MPEG_LAYER_III", taken), rate, taken)


class _Pcm:
    """16-bit little-endian samples after a header."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def add(self, samples: Array) -> bytes:
        header, self._header = self._header, b""
        return header + (np.clip(samples, -1, 1) * 32_767).round().astype("<i2").tobytes()

    def end(self) -> bytes:
        header, self._header = self._header, b""
        return header


class _Resampled:
    """Changes the rate before another encoder, if need be."""

    def __init__(self, inner: SoundEncoder, rate: int, wanted: int) -> None:
        self._inner = inner
        self._stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32") if rate != wanted else None

    def add(self, samples: Array) -> bytes:
        if self._stream is not None:
            samples = self._stream.resample_chunk(samples)
        return self._inner.add(samples)

    def end(self) -> bytes:
        rest = b""
        if self._stream is not None:
            rest = self._inner.add(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return rest + self._inner.end()


class _Written(io.RawIOBase):
    """Keeps what libsndfile writes until it is taken, without changes to the header, which has been sent by then."""

    def __init__(self) -> None:
        self._taken = self._at = 0
        self._new = bytearray()

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override] # whatever has a length
        beyond = max(0, self._taken + len(self._new) - self._at)
        self._new += memoryview(data)[beyond:]
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._taken + len(self._new)}
        self._at = bases[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        new, self._new = bytes(self._new), bytearray()
        self._taken += len(new)
        return new


class _Streamed:
    """A format whose file is of use from its beginning on."""

    def __init__(self, container: str, subtype: str, rate: int) -> None:
        self._written = _Written()
        # of one bit rate, as the length of other MP3 files is in a header that was sent long ago
        constant = {"bitrate_mode": "CONSTANT", "compression_level": _MP3_LEVEL} if container == "MP3" else {}
        self._file = SoundFile(self._written, "w", rate, 1, subtype, format=container, **constant)

    def add(self, samples: Array) -> bytes:
        self._file.write(samples)
        return self._written.take()

    def end(self) -> bytes:
        self._file.close()
        return self._written.take()


class _Flac:
    """A FLAC file, which comes as a whole, because readers need the length that its header tells."""

    def __init__(self, rate: int) -> None:
        self._written = io.BytesIO()
        self._file = SoundFile(self._written, "w", rate, 1, "PCM_16", format="FLAC")

    def add(self, samples: Array) -> bytes:
        self._file.write(samples)
        return b""

    def end(self) -> bytes:
        self._file.close()
        return self._written.getvalue()


def _wav_header(rate: int) -> bytes:
    shape = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", _UNKNOWN) + b"WAVEfmt " + shape + b"data" + struct.pack("<I", _UNKNOWN)
