"""Layers that read the same input are merged, whatever their names, and give the same results."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.attention.sdpa import SdpaKernels
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.loading import merging, packing, quantisation, weights
from infermesh_worker_xpu.loading.compiling import compile_layers
from infermesh_worker_xpu.loading.merging import MergedLinear, MergedPart
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from conftest import Feed, MakeRunner, TinyFolder

Load = Callable[..., PreTrainedModel]

OPTIONS = TorchOptions(device="cpu", dtype="fp32", kv_cache_bytes=8 << 20, context_length=512, max_sequences=8)
GROUPS = {"llama": 2, "qwen2": 2, "qwen3": 2, "gemma2": 2, "gemma3": 2, "smollm3": 2, "olmo2": 2, "phi": 1, "phi3": 0}
"""By architecture: groups of mergeable linear layers in each decoder layer."""


@pytest.fixture
def load(tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a tiny model as on an accelerator: linear layers are not packed, and the test does the merging."""
    monkeypatch.setattr(packing, "pack", lambda model, few_rows: 0)
    device = devices.select("cpu", 0)
    merge = merging.merge

    def load(name: str, **changes: Any) -> PreTrainedModel:
        with monkeypatch.context() as patch:
            if merging.merge is merge:
                patch.setattr(merging, "merge", lambda model: 0)
            return weights.load(tiny_folder(name), device, torch.float32, replace(OPTIONS, **changes))

    return load


class Replayed:
    """A graph whose replay runs its work again."""

    def capture(self, work: Callable[[], Tensor]) -> None:
        self._work = work
        work()

    def replay(self) -> torch.Tensor:
        return self._work()


def runner_of(model: PreTrainedModel, **kwargs: Any) -> TorchRunner:
    return TorchRunner(model, devices.select("cpu", 0), SdpaKernels(), OPTIONS, RunnerFacts("sdpa", 1), **kwargs)


def run_both(feed: type[Feed], plain: TorchRunner, merged: TorchRunner) -> None:
    """Mixed steps give the same logits."""
    sequences = [np.random.default_rng(i).integers(3, 160, 60) for i in range(3)]
    feeds = [feed(runner, sequences) for runner in (plain, merged)]
    for runs in ({0: 30, 1: 12, 2: 7}, {0: 1, 1: 1, 2: 1}, {1: 1}, {0: 9, 2: 1}):
        expected, found = (each.run(runs) for each in feeds)
        for i in runs:
            np.testing.assert_allclose(found[i], expected[i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", GROUPS)
def test_merged_layers_compute_the_same(name: str, load: Load, tiny_runner: MakeRunner, feed: type[Feed]) -> None:
    model = load(name)
    size_bytes = weights.size_bytes(model)
    count = merging.merge(model)
    merged = [module for module in model.modules() if isinstance(module, MergedLinear)]
    assert len(merged) == model.config.num_hidden_layers * GROUPS[name]
    assert count == sum(len(each.sizes) for each in merged)
    assert weights.size_bytes(model) == size_bytes
    run_both(feed, tiny_runner(name), runner_of(model))
    assert all(each.input is None and not each.results for each in merged)


def test_a_llama_layer_has_four_products(load: Load) -> None:
    model = load("llama")
    merging.merge(model)
    layer = model.model.layers[0]
    assert [type(getattr(layer.self_attn, f"{name}_proj")) for name in "qkvo"] == [
        MergedPart,
        MergedPart,
        MergedPart,
        nn.Linear,
    ]
    assert sum(type(module) is nn.Linear for module in layer.modules()) == 4


def test_no_weight_outlives_its_merging(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the merged weights would be in memory twice."""
    model = load("llama")
    weights = [weakref.ref(module.weight) for module in model.modules() if type(module) is nn.Linear]
    alive: list[int] = []
    plain = MergedLinear.__init__

    def noting(self: MergedLinear, layers: list[nn.Linear]) -> None:
        alive.append(sum(weight() is not None for weight in weights))
        plain(self, layers)

    monkeypatch.setattr(MergedLinear, "__init__", noting)
    merging.merge(model)
    assert alive == [len(weights) - 5 * (at // 2) - at % 2 * 2 for at in range(len(alive))]  # last of two, then three
    assert len(alive) == 2 * model.config.num_hidden_layers


def test_merged_layers_are_quantised_to_the_same_numbers(load: Load, feed: type[Feed]) -> None:
    pytest.importorskip("torchao")
    device, found = devices.select("cpu", 0), []
    for merge in (lambda model: 0, merging.merge):
        model = load("llama")
        merge(model)
        quantisation.quantise(model, "int8", device)
        each = feed(runner_of(model), [np.arange(3, 60)])
        each.run({0: 30})
        found.append(each.run({0: 1})[0])
    np.testing.assert_allclose(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_merged_and_captured_layers_are_compiled_once(load: Load, tiny_runner: MakeRunner, feed: type[Feed]) -> None:
    model = load("llama")
    merging.merge(model)
    torch._dynamo.reset()
    assert compile_layers(model, backend="aot_eager")
    made_at_load = counters["stats"]["unique_graphs"]
    run_both(feed, tiny_runner("llama"), runner_of(model, new_pool=lambda: Replayed))
    assert counters["stats"]["unique_graphs"] == made_at_load


def test_a_part_never_answers_for_another_input() -> None:
    layers = [nn.Linear(4, size) for size in (3, 5)]
    merged = MergedLinear(layers)
    first, second = MergedPart(merged, 0), MergedPart(merged, 1)
    a, b = torch.randn(2, 4), torch.randn(2, 4)
    first(a)  # nobody asks for the other half, as when memory runs out in between
    torch.testing.assert_close(second(b), layers[1](b))
    torch.testing.assert_close(first(a), layers[0](a))
    torch.testing.assert_close(second(a), layers[1](a))


def test_exact_layers_are_not_merged(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[PreTrainedModel] = []

    def noted(model: PreTrainedModel) -> int:
        merged.append(model)
        return 0

    monkeypatch.setattr(merging, "merge", noted)
    load("llama", numerics="exact")
    assert merged == []
    model = load("llama")
    assert merged == [model]
    assert merged[0].config._attn_implementation == attention.IMPLEMENTATION


def test_merged_layers_are_packed_on_processors(
    tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch, feed: type[Feed]
) -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch's
        pytest.skip("this processor's torch has no oneDNN")
    device, found = devices.select("cpu", 0), []
    merge = merging.merge
    sequences = [np.random.default_rng(i).integers(3, 160, 60) for i in range(3)]
    for each in (lambda model: 0, merge):
        monkeypatch.setattr(merging, "merge", each)
        model = weights.load(tiny_folder("llama"), device, torch.float32, OPTIONS)
        found.append(feed(runner_of(model), sequences))
    packed: list[nn.Module] = [module.linear for module in model.modules() if isinstance(module, MergedLinear)]
    assert len(packed) == 6
    assert all(isinstance(layer, packing.PackedLinear) for layer in packed)
    for runs in ({0: 30, 1: 12, 2: 7}, {0: 1, 1: 1, 2: 1}, {1: 1}):
        expected, merged = (each.run(runs) for each in found)
        for i in runs:
            np.testing.assert_allclose(merged[i], expected[i], atol=1e-5, rtol=1e-5)
