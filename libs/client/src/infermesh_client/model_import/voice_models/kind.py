"""Tells whether a folder holds a model that turns text into speech."""

from pathlib import Path


def is_voice_model(folder: Path) -> bool:
    """Whether there are an ONNX file and voices, as Kokoro's folders have them."""
    return _has(folder, "*.onnx", "onnx/*.onnx") and _has(folder, "voices/*.bin", "voices*.bin", "voices*.npz")


def _has(folder: Path, *patterns: str) -> bool:
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))
