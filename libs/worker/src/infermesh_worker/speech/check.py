"""Tries a Whisper before an import copies it: whether it loads, listens, and answers with numbers that fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.speech.config import RATE, SpeechConfig, read_speech_config
from infermesh_worker.speech.device import SpeechDevice
from infermesh_worker.speech.features import Features

Load = Callable[[Path, SpeechConfig], SpeechDevice]


def check_speech(folder: Path, load: Load, progress: Callable[[str, float], None]) -> dict[str, object]:
    """What an import asks of the model in a folder: {"context_length", "languages"}.

    `load` loads it onto a device. Raises FailedPrecondition for a model that cannot be served.
    """
    tokenizer = _tokenizer(folder / "tokenizer.json")
    config = read_speech_config(folder, tokenizer)
    device = load(folder, config)
    progress("loaded", 0.7)
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, RATE).astype(np.float32)
    with device.session() as session:
        session.encode(Features(noise, config).window(0))
        logits = session.extend([config.tokens.start], [0])
        if logits.shape != (1, config.vocab_size) or not np.isfinite(logits).all():
            raise _refusal("the model answers with numbers that are not finite, or not one for each token")
        _, looks = session.align([config.tokens.start, config.tokens.end])
        if looks.shape != (len(config.alignment_heads), 2, config.frames):
            raise _refusal("the model's attention has another shape than config.json says")
    return {"context_length": config.positions, "languages": sorted(config.tokens.languages) or ["en"]}


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exception
        raise _refusal(f"tokenizer.json cannot be used: {error}") from error


def _refusal(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="MODEL_NOT_SUPPORTED")
