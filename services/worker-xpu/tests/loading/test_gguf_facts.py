"""worker-xpu gives the log probabilities of a GGUF file, or refuses it by name."""

import re
from pathlib import Path

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import CONTEXT, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

AGREEING = (
    "llama",
    "llama-rope-freqs",
    "llama-linear",
    "llama-yarn",
    "llama-attention-scale",
    "qwen2",
    "gemma2",
    "gemma2-capped",
    "gemma3",
)
"""transformers' reader refuses the other architectures, or sizes as small as these."""


def runner_of(folder: Path) -> TorchRunner:
    options = TorchOptions(device="cpu", dtype="fp32", numerics="exact", kv_cache_bytes=8 << 20, context_length=CONTEXT)
    return load_runner(folder, options)


@pytest.mark.parametrize("name", AGREEING)
def test_log_probabilities_are_the_references(name: str, tmp_path: Path) -> None:
    weights = write(tmp_path / "model.gguf", RECIPES[name])
    got = log_probabilities_of(runner_of(tmp_path))
    assert np.abs(got - log_probabilities(RECIPES[name], weights, IDS)).max() < 1e-2


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["llama"], keys={"attention.something_new": 1})
    with pytest.raises(InvalidArgument, match=re.escape("attention.something_new")):
        runner_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "key"), [("llama-window", "llama.attention.sliding_window"), ("phi3", "phi3.rope.dimension_count")]
)
def test_what_transformers_has_no_place_for_is_refused(name: str, key: str, tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES[name])
    with pytest.raises(FailedPrecondition, match=re.escape(key)):
        runner_of(tmp_path)
