"""A tiny Whisper's config and tokenizer, and what a scripted one makes of a sound."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from infermesh_worker.speech.config import SpeechConfig, read_speech_config
from tests.speech_models.folders import tiny_whisper


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("speech") / "tiny", suppress_tokens=None, begin_suppress_tokens=None)


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture
def config(folder: Path, tokenizer: Tokenizer) -> SpeechConfig:
    return read_speech_config(folder, tokenizer)
