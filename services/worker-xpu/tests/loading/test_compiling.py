"""torch.compile does not change results, and a model that it cannot compile is left unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.load_runner import choose_kernels
from infermesh_worker_xpu.loading import compiling, packing, weights
from infermesh_worker_xpu.loading.compiling import compile_layers, compiled_modules, why_not_compiled
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from conftest import Feed, MakeRunner, TinyFolder

OPTIONS = TorchOptions(device="cpu", dtype="fp32", kv_cache_bytes=8 << 20, context_length=512, max_sequences=8)


@pytest.fixture
def unpacked_model(tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    """A model with unpacked layers, because packed ones cannot be compiled."""
    monkeypatch.setattr(packing, "pack", lambda model, few_rows: 0)
    torch._dynamo.reset()
    device = devices.select("cpu", 0)
    return weights.load(tiny_folder("llama"), device, torch.float32, OPTIONS)


def test_compiled_layers_compute_the_same(
    unpacked_model: PreTrainedModel, tiny_runner: MakeRunner, feed: type[Feed]
) -> None:
    plain = tiny_runner("llama")  # before: it may set the number of threads, for which torch compiles again
    # aot_eager traces and splits as inductor does, which would take minutes here
    assert compile_layers(unpacked_model, backend="aot_eager")
    made_at_load = counters["stats"]["unique_graphs"]
    attention_name, kernels = choose_kernels(devices.select("cpu", 0), OPTIONS)
    facts = RunnerFacts(attention_name, 1, compiled=True)
    compiled = TorchRunner(unpacked_model, devices.select("cpu", 0), kernels, OPTIONS, facts)
    assert compiled.info.runtime.endswith("(float32, sdpa, compiled)")
    sequences = [np.random.default_rng(i).integers(3, 160, 60) for i in range(3)]
    feeds = [feed(runner, sequences) for runner in (plain, compiled)]
    for runs in ({0: 30, 1: 12, 2: 7}, {0: 1, 1: 1, 2: 1}, {1: 1}, {0: 9, 2: 1}):
        expected, found = (each.run(runs) for each in feeds)
        for i in runs:
            np.testing.assert_allclose(found[i], expected[i], atol=1e-4, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == made_at_load  # another would stop a step for seconds


def test_a_model_that_torch_cannot_compile_stays_as_it_was(
    unpacked_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "TRIED_TOKENS", (1,))

    def broken(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: broken)
    assert not compile_layers(unpacked_model)
    assert any("layers run uncompiled" in record.message for record in caplog.records)
    assert all(layer._compiled_call_impl is None for layer in compiled_modules(unpacked_model))
    assert unpacked_model.config._attn_implementation == attention.IMPLEMENTATION
    specs, vocab = attention.record_layers(unpacked_model, tokens=3, rows=1)
    assert (len(specs), vocab) == (3, 160)


def test_the_last_norm_and_the_rotary_embedding_are_compiled_too(unpacked_model: PreTrainedModel) -> None:
    decoder = unpacked_model.model
    assert compiled_modules(unpacked_model) == [*decoder.layers, decoder.norm, decoder.rotary_emb]


def test_layers_are_compiled_where_decode_steps_are_captured() -> None:
    cuda, cpu = devices.TorchDevice(torch.device("cuda", 0)), devices.select("cpu", 0)
    assert why_not_compiled(cuda, TorchOptions(), captured=True) == ""
    assert "without graphs" in why_not_compiled(cuda, TorchOptions(), captured=False)
    assert why_not_compiled(cuda, TorchOptions(compile="on"), captured=False) == ""
    assert why_not_compiled(cuda, TorchOptions(compile="off"), captured=True) == "INFERMESH_COMPILE=off"
    assert "packed" in why_not_compiled(cpu, TorchOptions(compile="on"), captured=False)


def test_inductor_knows_the_options_that_tune_it() -> None:
    assert set(compiling.TUNING) <= set(torch._inductor.list_options())
