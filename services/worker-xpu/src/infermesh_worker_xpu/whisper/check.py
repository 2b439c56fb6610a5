"""Tries a Whisper in torch before an import copies it."""

from collections.abc import Callable
from pathlib import Path

from infermesh_worker.speech.check import check_speech
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.whisper.build import load_speech


def check(folder: Path, *, progress: Callable[[str, float], None]) -> dict[str, object]:
    """{"context_length", "languages"} of the model in a folder. Raises InfermeshError for one that cannot run."""
    options = TorchOptions(device="cpu", dtype="fp32")
    return check_speech(folder, lambda path, config: load_speech(path, config, options), progress)
