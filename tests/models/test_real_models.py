"""Real models, imported by the command, give transformers' tokens on both workers. `make test-models` runs it."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.models.known_models import MODELS
from tests.models.running import Comparison, compare, import_folder, import_gguf

NEAR_TIE = 1e-2
PRECISION = 2e-2
SMALLER = tuple(MODELS)[:2]
CONVERTER = Path(os.environ.get("INFERMESH_TEST_CONVERTER_VENV", "build/venv-huggingface")).absolute()
"""A venv with our packages and optimum-intel, which `make test-huggingface` makes."""


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name and imported folder of a GGUF file; one model's tests run before the next model is imported."""
    return request.param, import_gguf(request.param, tmp_path_factory.mktemp(request.param) / "models")


@pytest.fixture(scope="module")
def folder(model: tuple[str, Path]) -> tuple[str, Path]:
    """The same weights, dequantised and imported as a Hugging Face folder."""
    if model[0] not in SMALLER:
        pytest.skip("a folder of float32 weights is made of the smaller models alone")
    return model[0], import_folder(*model, CONVERTER)


def check_exact(found: Comparison) -> None:
    assert found.behind.shape == (20, 64)
    assert found.behind.max() < NEAR_TIE
    assert found.differences.max() < PRECISION
    assert found.texts_kept


def check_near(found: Comparison, *, agreeing: float, median: float) -> None:
    """In the default precision: the share of tokens that are the most probable ones, and how far others are off."""
    assert (found.behind < NEAR_TIE).mean() > agreeing
    assert np.median(found.differences) < median


def test_gguf_on_worker_cpu_in_exact_numerics(model: tuple[str, Path]) -> None:
    check_exact(compare(*model, "openvino", "exact"))


def test_gguf_on_worker_cpu_by_default(model: tuple[str, Path]) -> None:
    check_near(compare(*model, "openvino", "fast"), agreeing=0.9, median=0.05)


def test_gguf_on_worker_xpu_in_exact_numerics(model: tuple[str, Path]) -> None:
    if model[0] not in SMALLER:
        pytest.skip("float32 on processors is slow: the smaller models alone")
    check_exact(compare(*model, "torch", "exact"))


def test_folder_on_worker_xpu_in_exact_numerics(folder: tuple[str, Path]) -> None:
    check_exact(compare(*folder, "torch", "exact"))


def test_folder_on_worker_cpu_in_8_bits(folder: tuple[str, Path]) -> None:
    check_near(compare(*folder, "openvino", "exact"), agreeing=0.9, median=0.05)
