"""Tells whether a folder holds a model that turns speech into text, and which of its files are the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infermesh_client.model_import.hugging_face.weights import INDEX, SINGLE
from infermesh_client.model_import.text_models.kind import read_object

CTRANSLATE2 = "model.bin"
"""Weights as CTranslate2 and faster-whisper keep them."""
SMALL = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def is_speech(folder: Path) -> bool:
    """Whether the folder holds Whisper: its config.json says so, and there are weights."""
    config = folder / "config.json"
    if not config.is_file() or not (weight_files(folder) or (folder / CTRANSLATE2).is_file()):
        return False
    return says_speech(read_object(config))


def says_speech(config: Mapping[str, Any]) -> bool:
    """The same by what config.json says."""
    return config.get("model_type") == "whisper"


def weight_files(folder: Path) -> Sequence[Path]:
    """The safetensors of a folder: the whole file where there are shards of another precision beside it."""
    whole = folder / SINGLE
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def small_files(folder: Path) -> Sequence[Path]:
    """The other files of the model."""
    names = SMALL if (folder / SINGLE).is_file() else (*SMALL, INDEX)
    return [folder / name for name in names if (folder / name).is_file()]
