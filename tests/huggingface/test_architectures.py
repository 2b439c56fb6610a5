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
    "phi4-mini",
    "granite",
    "olmo2",
    "mixtral",
    "qwen2-moe",
    "qwen3-moe",
)
REFUSED = {"smollm3": "smollm3", "llama-dynamic": "rope type dynamic"}
"""What cannot be exported, and what the error names."""


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
    xml = folder / "openvino" / "model.xml"  # below config.json, as in an import: the graph alone has no soft cap
    xml.parent.mkdir()
    assert not export(folder, xml)
    asked, model = prompts(), load(folder)
    for prompt, (tokens, log_probabilities) in zip(asked, answered(xml, asked), strict=True):
        expected, of_expected = generated(model, prompt)
        assert tokens == expected
        assert np.abs(np.subtract(log_probabilities, of_expected)).max() < 1e-4


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_named(name: str, tmp_path: Path) -> None:
    folder = save_tiny(tiny_config(name), tmp_path / "saved")
    assert REFUSED[name] in export(folder, tmp_path / "model.xml")
    assert not (tmp_path / "model.xml").exists()
