"""Computes the features of a sound: its log-mel spectrogram, as Whisper was trained on it."""

from collections.abc import Callable
from functools import cache

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import HOP, RATE, WINDOW, SpeechConfig

_FRAMES = 2048
"""Frames that are computed at a time, which bounds the memory."""
_RANGE = 8.0
"""What is quieter than the loudest by more than this power of ten counts as this much quieter."""


class Features:
    """The features of a whole sound, from which windows are cut."""

    def __init__(self, samples: Array, config: SpeechConfig, alive: Callable[[], object] = bool) -> None:
        """`samples`: FP32 [n], 16 kHz. One that is shorter than a window is filled up with silence, as in training.

        `alive` is called now and then while a long sound is computed.
        """
        self._window = config.window_frames
        self.seconds = len(samples) / RATE
        self.frames = max(1, len(samples) // HOP)
        """How many frames have sound."""
        missing = self._window * HOP - len(samples)
        self._mel = log_mel(np.pad(samples, (0, missing)) if missing > 0 else samples, config.mels, alive)

    def window(self, begin: int) -> Array:
        """FP32 [mels, frames of a window] from frame `begin`; zeros where the sound has ended."""
        cut = self._mel[:, begin : begin + self._window]
        return np.pad(cut, ((0, 0), (0, self._window - cut.shape[1])))

    def length(self, begin: int) -> int:
        """How many frames of the window that begins there have sound."""
        return min(self._window, self.frames - begin)


def log_mel(samples: Array, mels: int, alive: Callable[[], object] = bool) -> Array:
    """FP32 [mels, n // HOP]. Frames are centred, the sound is reflected at its ends, and the loudest is the measure."""
    count = len(samples) // HOP
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    filters = mel_filters(mels)
    logs = np.empty((mels, count), np.float32)
    for begin in range(0, count, _FRAMES):
        spectrum = np.fft.rfft(_frames(samples, begin, min(begin + _FRAMES, count)) * window, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        logs[:, begin : begin + _FRAMES] = np.log10(np.maximum(filters @ power.T, 1e-10))
        alive()
    np.maximum(logs, logs.max() - _RANGE, out=logs)
    logs += 4.0
    logs /= 4.0
    return logs


def _frames(samples: Array, begin: int, end: int) -> Array:
    """[frames, WINDOW] from `begin` to `end`: a view, but for those that reach over an end of the sound."""
    first, last = begin * HOP - WINDOW // 2, (end - 1) * HOP + WINDOW // 2
    if first >= 0 and last <= len(samples):
        block = samples[first:last]
    else:
        period = 2 * max(1, len(samples) - 1)
        places = np.arange(first, last) % period
        block = samples[np.minimum(places, period - places)]
    return np.lib.stride_tricks.sliding_window_view(block, WINDOW)[::HOP]


@cache
def mel_filters(mels: int) -> Array:
    """FP32 [mels, frequencies]: triangles on Slaney's mel scale from 0 to 8 kHz, each of area 1."""
    frequencies = np.linspace(0, RATE // 2, WINDOW // 2 + 1)
    corners = _hertz(np.linspace(0.0, _mel(RATE / 2), mels + 2))
    slopes = corners[:, None] - frequencies[None, :]
    widths = np.diff(corners)
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    areas: Array = 2.0 / (corners[2:] - corners[:-2])
    return (triangles * areas[:, None]).astype(np.float32)


_BEND_HZ, _HERTZ, _STEP = 1000.0, 200.0 / 3, np.log(6.4) / 27.0
"""Slaney's scale is linear up to this frequency, with so many hertz a mel, and then grows by this logarithm."""


def _mel(hertz: float) -> float:
    bend = _BEND_HZ / _HERTZ
    return hertz / _HERTZ if hertz < _BEND_HZ else bend + float(np.log(hertz / _BEND_HZ)) / _STEP


def _hertz(mel: Array) -> Array:
    bend = _BEND_HZ / _HERTZ
    return np.where(mel < bend, mel * _HERTZ, _BEND_HZ * np.exp(_STEP * (mel - bend)))
