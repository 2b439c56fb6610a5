"""Finds the parts of a recording in which somebody speaks.

    infermesh models import pypi:silero-vad==6.2.3:silero_vad/data/silero_vad_op18_ifless.onnx --name silero-vad
    python examples/find_speech.py examples/data/twice.wav

The model is Silero VAD; the mesh at --endpoint runs it. It has no state of its own: each call takes the state that the
last one gave, so any worker can answer the next one. Takes WAV files of 16 kHz, one channel, 16 bits.
"""

import argparse
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infermesh_client import Client

Floats = NDArray[np.float32]
RATE, PIECE, CONTEXT = 16_000, 512, 64
"""Samples a second; those that a call takes; and those before them, which it takes too."""
STATE = (2, 1, 128)
SPEECH = 0.5


def samples(path: Path) -> Floats:
    """The samples of a recording, in [-1, 1)."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path} is not of 16 kHz, one channel and 16 bits")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)


def chances(client: Client, model: str, recording: Floats) -> Iterator[float]:
    """How likely speech is in each piece of the recording, in [0, 1]."""
    state, before = np.zeros(STATE, np.float32), np.zeros((1, CONTEXT), np.float32)
    for begin in range(0, len(recording) - PIECE + 1, PIECE):
        given = np.concatenate([before, recording[np.newaxis, begin : begin + PIECE]], axis=1)
        answer = client.infer(model, {"input": given, "sr": np.array(RATE), "state": state})
        state, before = answer["stateN"], given[:, -CONTEXT:]
        yield float(answer["output"][0, 0])


def parts(likely: Sequence[float]) -> Iterator[tuple[float, float]]:
    """When speech begins and ends, in seconds."""
    begin: int | None = None
    for place, chance in enumerate([*likely, 0.0]):
        if chance >= SPEECH and begin is None:
            begin = place
        elif chance < SPEECH and begin is not None:
            yield begin * PIECE / RATE, place * PIECE / RATE
            begin = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--model", default="silero-vad")
    parser.add_argument("--endpoint", default="127.0.0.1:8081")
    options = parser.parse_args()
    recording = samples(options.recording)
    with Client(options.endpoint) as client:
        for begin, end in parts(list(chances(client, options.model, recording))):
            print(f"{begin:.2f} s to {end:.2f} s")


if __name__ == "__main__":
    main()
