"""Writes a tiny model with Kokoro's tensors, voices and vocabulary, whose sound tells what it was given.

Each phoneme sounds for 100 samples divided by the speed, as its id / 200 plus the first number of the style.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from infermesh_runtime.tensors import Array
from tests.tensor_models.onnx_models import save, tensor

SAMPLES = 100
VOCABULARY = {"$": 0} | {phoneme: place for place, phoneme in enumerate(" .,;:!?abcdefghijklmnopqrstuvwxyz", 1)}
VOICES = ("af_one", "bf_two", "jf_other")


class Letters:
    """Takes the letters of a text for its phonemes."""

    def phonemes(self, text: str, language: str) -> str:
        return text.lower() if language != "it" else text.lower()[::-1]


def voice(place: int) -> Array:
    """The styles of a voice: its number, and how many phonemes there are."""
    styles = np.zeros((510, 1, 256), np.float32)
    styles[:, 0, 0] = place / 10
    styles[:, 0, 1] = np.arange(1, 511)
    return styles


def expected(text: str, voices: Sequence[int] = (0,), speed: float = 1.0) -> Array:
    """The sound of a piece."""
    ids = np.array([0, *(VOCABULARY[phoneme] for phoneme in text.lower()), 0], np.float32)
    return np.repeat(ids / 200 + np.float32(np.mean(voices) / 10), int(SAMPLES / speed))


def tiny_kokoro(folder: Path, *, noise: bool = False, ids: str = "input_ids") -> Path:
    """Writes the model; returns its folder. `noise`: its graph draws random numbers. `ids`: name of the first input."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"vocab": VOCABULARY}))
    (folder / "voices").mkdir()
    for place, name in enumerate(VOICES):
        voice(place).tofile(folder / "voices" / f"{name}.bin")
    write_graph(folder / "model.onnx", noise=noise, ids=ids)
    return folder


def write_graph(path: Path, *, noise: bool = False, ids: str = "input_ids", style_size: int = 256) -> Path:
    numbers: dict[str, Array] = {
        "scale": np.array(200, np.float32),
        "samples": np.array([SAMPLES], np.float32),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "last": np.array([-1], np.int64),
        "zero": np.array([0], np.int64),
        "flat": np.array([1, -1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", [ids], ["f"], to=TensorProto.FLOAT),
        node("Div", ["f", "scale"], ["levels"]),
        node("Slice", ["style", "zero", "one", "one"], ["level"]),
        node("Add", ["levels", "level"], ["phonemes"]),
        node("Unsqueeze", ["phonemes", "last"], ["column"]),
        node("Div", ["samples", "speed"], ["exact"]),
        node("Cast", ["exact"], ["count"], to=TensorProto.INT64),
        node("Concat", ["one", "one", "count"], ["shape"], axis=0),
        node("Expand", ["column", "shape"], ["sounds"]),
        node("Reshape", ["sounds", "flat"], ["plain"]),
        *(
            [node("RandomNormalLike", ["plain"], ["drawn"], scale=0.01), node("Add", ["plain", "drawn"], ["waveform"])]
            if noise
            else [node("Identity", ["plain"], ["waveform"])]
        ),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    inputs = [tensor(ids, [1, "n"], TensorProto.INT64), tensor("style", [1, style_size]), tensor("speed", [1])]
    return save(path, nodes, inputs, [tensor("waveform", [1, "samples"])], *weights)
