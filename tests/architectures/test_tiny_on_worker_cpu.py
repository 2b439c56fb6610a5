"""On worker-cpu, a GGUF file of each architecture gives the tokens of transformers' `generate` on the same weights."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from infermesh_worker_cpu.gguf_graph.build import save_graph
from tests.architectures.answering import answered, generated, load, one_thread, prompts
from tests.architectures.as_gguf import write_gguf
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
    "gemma3",
    "phi3",
    "phi3-long",
    "smollm3",
    "granite",
    "olmo2",
    "gemma2",
    "mixtral",
    "qwen2-moe",
    "qwen3-moe",
)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_are_those_of_generate(name: str, tmp_path: Path) -> None:
    model = load(save_tiny(tiny_config(name), tmp_path / "saved"))
    write_gguf(model, tmp_path / "model.gguf", kind=gguf.GGMLQuantizationType.F32)
    save_graph(tmp_path / "model.gguf", tmp_path / "model.xml", lambda what, share: None)
    asked = prompts(name)
    for prompt, (tokens, log_probabilities) in zip(asked, answered(tmp_path / "model.xml", asked), strict=True):
        expected, of_expected = generated(model, prompt)
        assert tokens == expected
        assert np.abs(np.subtract(log_probabilities, of_expected)).max() < 1e-4
