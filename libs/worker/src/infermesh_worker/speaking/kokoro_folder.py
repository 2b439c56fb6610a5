"""Finds the files of Kokoro in a folder, and reads its voices and its vocabulary.

Takes the layouts of kokoro-onnx (a graph, voices-v1.0.bin, config.json) and of kokoro-js and its repository on the Hub
(a graph, voices/*.bin, and tokenizer.json or config.json).
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array

MOST_PHONEMES = 510
"""That the model takes at once, without the mark at each end."""
STYLE = 256
"""Length of the vector that says how to speak; a voice has one for each number of phonemes."""
_VOICES = "voices"
_VOCABULARIES = ("config.json", "tokenizer.json")
_VOICE_SHAPE = (MOST_PHONEMES, 1, STYLE)
_ARCHIVE = b"PK\x03\x04"
"""At the beginning of numpy's archives."""
_MOST_VOICE_FILES_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class KokoroFolder:
    """The files of a model."""

    graph: Path
    voices: tuple[Path, ...]
    """One file for each voice, or a single one for all."""
    vocabulary: Path

    @classmethod
    def find(cls, folder: Path) -> "KokoroFolder":
        """Raises InvalidArgument, which says what is missing."""
        graphs = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
        if len(graphs) != 1:
            names = ", ".join(str(graph.relative_to(folder)) for graph in graphs) or "none"
            raise InvalidArgument(f"{folder} must have exactly one ONNX file, in itself or in its folder onnx: {names}")
        voices = sorted(folder.glob(f"{_VOICES}/*.bin")) or sorted(
            [*folder.glob(f"{_VOICES}*.bin"), *folder.glob(f"{_VOICES}*.npz")]
        )
        if not voices:
            raise InvalidArgument(f"{folder} has no voices: neither {_VOICES}/*.bin nor {_VOICES}-v1.0.bin")
        vocabulary = next((folder / name for name in _VOCABULARIES if (folder / name).is_file()), None)
        if vocabulary is None:
            raise InvalidArgument(f"{folder} has no {' or '.join(_VOCABULARIES)}, which holds the vocabulary")
        return cls(graphs[0], tuple(voices), vocabulary)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.graph, self.vocabulary, *self.voices)


def read_voices(paths: tuple[Path, ...]) -> Mapping[str, Array]:
    """Voices by name: FP32 [510, 256]. Raises InvalidArgument for files that hold anything else."""
    if sum(path.stat().st_size for path in paths) > _MOST_VOICE_FILES_BYTES:
        raise InvalidArgument(f"the voices have more than {_MOST_VOICE_FILES_BYTES >> 20} MiB")
    found: dict[str, Array] = {}
    for path in paths:
        found |= _read_archive(path) if _is_archive(path) else {path.stem: _read_plain(path)}
    for name, voice in found.items():
        if voice.shape != _VOICE_SHAPE or voice.dtype != np.float32 or not np.isfinite(voice).all():
            raise InvalidArgument(
                f"the voice {name} is {voice.dtype} {list(voice.shape)}; expected finite float32 {list(_VOICE_SHAPE)}"
            )
    return {name: voice[:, 0] for name, voice in found.items()}


def read_vocabulary(path: Path) -> Mapping[str, int]:
    """The id of each phoneme. Raises InvalidArgument for a file that does not tell."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        table = content.get("vocab") or content["model"]["vocab"]
        found = {str(phoneme): int(number) for phoneme, number in table.items()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"{path.name} has no vocabulary: no object `vocab` with numbers") from error
    if missing := [phoneme for phoneme in " .,aeiou" if phoneme not in found]:
        raise InvalidArgument(f"the vocabulary in {path.name} lacks {missing[0]!r}: it is not one of Kokoro's phonemes")
    if any(len(phoneme) != 1 and phoneme != "$" for phoneme in found) or min(found.values()) < 0:
        raise InvalidArgument(f"the vocabulary in {path.name} must have single characters, with numbers from 0")
    return found


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def _read_plain(path: Path) -> Array:
    data = np.fromfile(path, np.float32)
    return data.reshape(_VOICE_SHAPE) if data.size == np.prod(_VOICE_SHAPE) else data


def _read_archive(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > _MOST_VOICE_FILES_BYTES:
            raise InvalidArgument(f"{path.name} claims {claimed >> 20} MiB")
        with np.load(path, allow_pickle=False) as voices:
            return {name: voices[name] for name in voices.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidArgument(f"{path.name} is no archive of voices: {error}") from error
