"""Tries a Whisper on OpenVINO before an import copies it."""

from collections.abc import Callable
from pathlib import Path

from infermesh_worker.speech.check import check_speech
from infermesh_worker_cpu.infer.compiling import InferOptions

from .build import load_speech


def check(folder: Path, *, progress: Callable[[str, float], None]) -> dict[str, object]:
    """{"context_length", "languages"} of the model in a folder. Raises InfermeshError for one that cannot run."""
    options = InferOptions(numerics="exact", batched=True)
    return check_speech(folder, lambda path, config: load_speech(path, config, options, 0), progress)
