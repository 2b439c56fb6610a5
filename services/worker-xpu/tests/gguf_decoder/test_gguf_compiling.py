"""torch.compile, bf16 and int8 weights work on the decoders of GGUF files as on transformers' models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.load_runner import choose_kernels, load_runner
from infermesh_worker_xpu.loading import packing, weights
from infermesh_worker_xpu.loading.compiling import compile_layers
from infermesh_worker_xpu.options import Quantisation, TorchOptions
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import CONTEXT, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

OPTIONS = TorchOptions(device="cpu", dtype="fp32", kv_cache_bytes=8 << 20, context_length=CONTEXT, threads=1)


def test_compiled_layers_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPES["gemma2"], layers=1)
    expected = log_probabilities(recipe, write(tmp_path / "model.gguf", recipe), IDS)
    monkeypatch.setattr(packing, "pack", lambda model, few_rows: 0)  # packed layers cannot be compiled
    torch._dynamo.reset()
    device = devices.select("cpu", 0)
    model = weights.load(tmp_path, device, torch.float32, OPTIONS)
    # "eager" traces as inductor does, and compiles nothing
    assert compile_layers(model, backend="eager")
    made_at_load = counters["stats"]["unique_graphs"]
    attention, kernels = choose_kernels(device, OPTIONS)
    runner = TorchRunner(model, device, kernels, OPTIONS, RunnerFacts(attention, 1, compiled=True))
    assert np.median(np.abs(log_probabilities_of(runner) - expected).max(1)) < 1e-4
    assert counters["stats"]["unique_graphs"] == made_at_load  # another would stop a step for seconds


@pytest.mark.parametrize("quantisation", ["none", "int8"])
def test_bf16_chooses_nearly_the_same_tokens(quantisation: Quantisation, tmp_path: Path) -> None:
    expected = log_probabilities(RECIPES["qwen2moe"], write(tmp_path / "model.gguf", RECIPES["qwen2moe"]), IDS)
    options = TorchOptions(
        device="cpu", dtype="bf16", quantisation=quantisation, kv_cache_bytes=8 << 20, context_length=CONTEXT, threads=1
    )
    found = log_probabilities_of(load_runner(tmp_path, options))
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.8
