"""Tries a model that speaks before an import copies it: its files, what its graph takes, and a few phonemes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker.speaking.espeak import Espeak
from infermesh_worker.speaking.executor import Phonemizer
from infermesh_worker.speaking.interface import SAMPLE_RATE, Speaker
from infermesh_worker.speaking.kokoro_folder import KokoroFolder, read_vocabulary, read_voices
from infermesh_worker.speaking.languages import is_speakable
from infermesh_worker.tensor_models.files import check_size

FAVOURITE = "af_heart"
"""The voice that Kokoro's authors recommend; the default where it is there."""


def try_folder(
    folder: Path,
    load: Callable[[Path], Speaker],
    *,
    progress: Callable[[str, float], None],
    phonemizer: Callable[[], Phonemizer] = Espeak,
) -> dict[str, Any]:
    """What a model's manifest says of it: {"files", "voices", "left_out", "sample_rate"}, in plain values.

    `load` opens a graph, `phonemizer` makes what turns text into phonemes. "files" are relative to the folder;
    "left_out" are the voices whose language cannot be spoken. Raises InfermeshError for a model that cannot be served.
    """
    found = KokoroFolder.find(folder)
    voices = read_voices(found.voices)
    vocabulary = read_vocabulary(found.vocabulary)
    names = sorted(filter(is_speakable, voices), key=lambda name: (name != FAVOURITE, name))
    if not names:
        raise InvalidArgument(f"none of the voices speaks a known language: {', '.join(voices)}")
    check_size(found.graph, [found.graph.name])
    phonemizer()
    progress("read", 0.2)
    speaker = load(found.graph)
    progress("loaded", 0.6)
    ids = [vocabulary[phoneme] for phoneme in "aeiou."]
    sound = speaker.speak(np.array([[0, *ids, 0]], np.int64), voices[names[0]][len(ids) - 1 : len(ids)], 1.0)
    if not sound.size or not np.isfinite(sound).all():
        raise FailedPrecondition("the model gives no sound, or one that is not finite", reason="MODEL_NOT_SUPPORTED")
    return {
        "files": [str(file.relative_to(folder)) for file in found.files],
        "voices": names,
        "left_out": sorted(set(voices) - set(names)),
        "sample_rate": SAMPLE_RATE,
    }
