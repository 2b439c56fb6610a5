"""Layers with 4-bit numbers multiply few rows with those, more rows with the packed weight, and both give the same."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from infermesh_worker_xpu import nibbles, preflight
from infermesh_worker_xpu.loading import nibble_linear, packing, quantisation
from infermesh_worker_xpu.loading.merging import MergedLinear
from infermesh_worker_xpu.loading.nibble_linear import MOST_ROWS, NibbleLinear
from infermesh_worker_xpu.nibbles import Nibbles

if TYPE_CHECKING:
    from conftest import Feed, MakeRunner

COLUMNS = 64


@pytest.fixture(autouse=True)
def any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests compute in fp32, in which torch's kernel is right but slow, on processors of any kind."""
    monkeypatch.setattr(nibble_linear, "has_kernel", lambda dtype: True)


def layer_of(rows: int, *, seed: int = 0, bias: bool = True, noted: bool = True) -> nn.Linear:
    """A layer whose weight is made of 4-bit numbers, which are attached if `noted`."""
    torch.manual_seed(seed)
    layer = nn.Linear(COLUMNS, rows, bias=bias).requires_grad_(requires_grad=False)
    found = Nibbles.nearest(layer.weight)
    layer.weight = nn.Parameter(found.values(), requires_grad=False)
    if noted:
        nibbles.attach(layer, found)
    return layer


def packed(layer: nn.Linear) -> nn.Module:
    holder = nn.Sequential(layer)
    packing.pack(holder)
    return holder[0]


def inputs_of(rows: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(1, rows, COLUMNS)


def test_nearest_numbers_are_within_half_a_step() -> None:
    weight = torch.randn(16, COLUMNS, generator=torch.Generator().manual_seed(2))
    found = Nibbles.nearest(weight)
    grouped = weight.view(16, -1, nibbles.GROUP)
    step = (grouped.amax(-1) - grouped.amin(-1)) / 15
    assert ((found.values() - weight).abs().view_as(grouped) <= step[..., None] * 0.501).all()


def test_they_take_five_bits_a_weight_until_they_are_packed() -> None:
    """What preflight counts beside the weights."""
    weight = torch.randn(16, COLUMNS, generator=torch.Generator().manual_seed(2)).bfloat16()
    assert Nibbles.nearest(weight).nbytes * 8 == preflight._NIBBLE_BITS * weight.numel()


def test_no_weight_outlives_its_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the model would be in memory twice."""
    model = nn.Sequential(*(nn.Sequential(layer_of(48), layer_of(COLUMNS)) for _ in range(2)))
    weights = [weakref.ref(module.weight) for module in model.modules() if isinstance(module, nn.Linear)]
    alive: list[int] = []
    plain = packing.PackedLinear.__init__

    def noting(self: packing.PackedLinear, linear: nn.Linear) -> None:
        alive.append(sum(weight() is not None for weight in weights))
        plain(self, linear)

    monkeypatch.setattr(packing.PackedLinear, "__init__", noting)
    assert packing.pack(model) == 4
    assert alive == [4, 3, 2, 1]


def test_a_constant_group_keeps_its_value() -> None:
    assert torch.allclose(Nibbles.nearest(torch.full((16, COLUMNS), 0.25)).values(), torch.tensor(0.25))


@pytest.mark.parametrize("rows", [1, MOST_ROWS, MOST_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_both_ways_give_the_product(rows: int, bias: bool) -> None:
    layer = layer_of(48, bias=bias)
    fast = packed(layer)
    assert isinstance(fast, NibbleLinear)
    torch.testing.assert_close(fast(inputs_of(rows)), layer(inputs_of(rows)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, MOST_ROWS, MOST_ROWS + 1])
def test_inputs_may_be_a_slice_of_columns(rows: int) -> None:
    layer = layer_of(48)
    torch.manual_seed(1)
    inputs = torch.randn(rows, 2 * COLUMNS)[:, COLUMNS:]
    torch.testing.assert_close(packed(layer)(inputs), layer(inputs), rtol=1e-5, atol=1e-5)


def test_only_few_rows_run_on_the_numbers() -> None:
    fast = packed(layer_of(48))
    assert isinstance(fast, NibbleLinear)
    fast.many = nn.Identity()
    assert fast(inputs_of(MOST_ROWS)).shape == (1, MOST_ROWS, 48)
    assert fast(inputs_of(MOST_ROWS + 1)).shape == (1, MOST_ROWS + 1, COLUMNS)


def test_large_weights_are_packed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, same = layer_of(208), layer_of(208)
    whole = packed(same)
    monkeypatch.setattr(nibble_linear, "_PART_ROWS", 64)
    assert torch.equal(packed(layer)(inputs_of(1)), whole(inputs_of(1)))


def test_merged_layers_join_their_numbers() -> None:
    layers = [layer_of(32), layer_of(16, seed=5)]
    merged = MergedLinear(layers)
    fast = packed(merged.linear)
    assert isinstance(fast, NibbleLinear)
    expected = torch.cat([layer(inputs_of(1)) for layer in layers], -1)
    torch.testing.assert_close(fast(inputs_of(1)), expected, rtol=1e-5, atol=1e-5)


def test_a_merged_layer_has_none_if_a_part_has_none() -> None:
    assert nibbles.attached(MergedLinear([layer_of(32), layer_of(16, noted=False)]).linear) is None


def test_numbers_of_a_weight_that_was_cut_are_ignored() -> None:
    layer = layer_of(48)
    layer.weight = nn.Parameter(layer.weight[:32], requires_grad=False)
    assert isinstance(packed(layer), packing.PackedLinear)


def test_large_weights_are_rounded_in_parts(tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny_runner("llama", quantisation="int4")
    monkeypatch.setattr(quantisation, "_PART_NUMBERS", 1000)
    parts = tiny_runner("llama", quantisation="int4")
    for one, other in zip(whole._model.modules(), parts._model.modules(), strict=True):
        if isinstance(one, NibbleLinear):
            assert isinstance(other, NibbleLinear)
            assert torch.equal(one._numbers, other._numbers)
            assert torch.equal(one._scales, other._scales)
    whole.close()
    parts.close()


def test_exact_numerics_round_all_rows_alike() -> None:
    holder = nn.Sequential(layer_of(48))
    packing.pack(holder, few_rows=False)
    assert isinstance(holder[0], packing.PackedLinear)


@pytest.mark.parametrize(
    ("dtype", "capability", "runs"),
    [(torch.bfloat16, "AVX512", True), (torch.float32, "AVX512", False), (torch.bfloat16, "AVX2", False)],
    ids=str,
)
def test_only_fast_kernels_are_used(
    dtype: torch.dtype, capability: str, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert nibble_linear.has_kernel(dtype) == runs


def test_rows_that_the_kernel_cannot_take_are_packed_alone() -> None:
    assert isinstance(packed(layer_of(40)), packing.PackedLinear)


def test_four_bits_answer_alike_for_few_and_many_rows(tiny_runner: MakeRunner, feed: type[Feed]) -> None:
    ids = np.random.default_rng(3).integers(3, 160, 40)
    runner = tiny_runner("llama", quantisation="int4")
    assert "int4 weights" in runner.info.runtime
    assert any(isinstance(module, NibbleLinear) for module in runner._model.modules())
    few, many = feed(runner, [ids]), feed(runner, [ids])
    few.run({0: 30})
    found = [few.run({0: 1})[0] for _ in range(10)][-1]
    np.testing.assert_allclose(found, many.run({0: 40})[0], atol=1e-4, rtol=1e-4)
    runner.close()
