"""Hugging Face folders of each architecture give transformers' tokens on worker-cpu, once optimum-intel exported them.

The weights lie on a grid that 8 bits hold exactly, so that tokens must be equal, not only near.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infermesh_worker_cpu.export_script import main
from tests.architectures.answering import answered, generated, load, one_thread, prompts
from tests.architectures.configs import save_tiny, tiny_config

ARCHITECTURES = (
    "llama",
    "llama-mha",
    "llama-tied",
    "llama-scaled",
    "llama-linear",
    "mistral",
    "mistral-window",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "phi3",
    "phi3-long",
    "smollm3",
    "granite",
    "olmo2",
    "mixtral",
    "qwen2-moe",
    "qwen3-moe",
)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_thread():
        yield


def export(folder: Path, xml: Path) -> str:
    """Exports as an import does, in this process; returns the error that it told, or ""."""
    told = io.StringIO()
    main(folder, xml, "int8", told)
    return "".join(json.loads(line).get("error", "") for line in told.getvalue().splitlines())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_are_those_of_generate(name: str, tmp_path: Path) -> None:
    folder = save_tiny(tiny_config(name), tmp_path / "saved", on_grid=True)
    assert not export(folder, tmp_path / "model.xml")
    asked, model = prompts(name), load(folder)
    for prompt, (tokens, log_probabilities) in zip(asked, answered(tmp_path / "model.xml", asked), strict=True):
        expected, of_expected = generated(model, prompt)
        assert tokens == expected
        assert np.abs(np.subtract(log_probabilities, of_expected)).max() < 1e-4
