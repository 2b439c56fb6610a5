"""The 4-bit numbers of a GGUF file are the values that gguf makes of it, and products of few rows run on them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import nn

from infermesh_runtime.gguf_account.contents import Linear
from infermesh_worker_xpu import nibbles
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.gguf_decoder import weight_reader
from infermesh_worker_xpu.gguf_decoder.stored_nibbles import take_apart
from infermesh_worker_xpu.gguf_decoder.weight_reader import Order, WeightReader
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.loading import nibble_linear
from infermesh_worker_xpu.loading.nibble_linear import NibbleLinear
from infermesh_worker_xpu.nibbles import Nibbles
from infermesh_worker_xpu.options import TorchOptions
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import CONTEXT, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

ROWS, COLUMNS = 6, 512


def random_blocks(kind: Kind) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Rows of blocks of any bytes, whose two leading halves are finite."""
    rng = np.random.default_rng(3)
    size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // size, block_bytes), dtype=np.uint8)
    blocks[:, :4] = rng.standard_normal((len(blocks), 2)).astype(np.float16).view(np.uint8)
    if kind == Kind.Q4_0:  # one half leads
        blocks[:, 2:4] = rng.integers(0, 256, (len(blocks), 2), dtype=np.uint8)
    return blocks.reshape(ROWS, -1)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q4_K], ids=lambda kind: kind.name)
def test_the_numbers_are_the_values_of_the_file(kind: Kind) -> None:
    stored = random_blocks(kind)
    found = take_apart(stored, kind, torch.float32)
    assert found.shape == (ROWS, COLUMNS)
    expected = torch.from_numpy(gguf.dequantize(stored, kind))
    torch.testing.assert_close(found.values(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


class OneTensor:
    """A file with one tensor of random blocks, which counts how often it is read."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.reads = 0
        self.contents = SimpleNamespace(tensors={"weight": SimpleNamespace(shape=(ROWS, COLUMNS))})

    def kind(self, name: str) -> Kind:
        assert name == "weight"
        return self._kind

    def stored(self, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        self.reads += 1
        return random_blocks(self.kind(name))


def attached_of(file: OneTensor, linear: Linear, order: Order | None = None) -> Nibbles | None:
    """What the reader attaches to a layer of the file's tensor."""
    reader = WeightReader(cast(Any, file), torch.device("cpu"), torch.bfloat16, keeps_nibbles=True)
    layer = nn.Linear(COLUMNS, linear.rows, bias=False, dtype=torch.bfloat16)
    reader.attach_nibbles(layer, linear, order)
    return nibbles.attached(layer)


def test_other_types_have_none_and_are_not_read_for_them() -> None:
    for kind in (Kind.Q5_0, Kind.Q8_0):
        file = OneTensor(kind)
        assert attached_of(file, Linear("weight", begin=0, rows=ROWS)) is None
        assert file.reads == 0


def test_large_tensors_are_taken_apart_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_reader, "_PART_NUMBERS", 2 * COLUMNS)
    order = np.array([4, 0, 3, 1, 2])
    found = attached_of(OneTensor(Kind.Q4_K), Linear("weight", begin=1, rows=5), order)
    assert found is not None
    whole = take_apart(random_blocks(Kind.Q4_K), Kind.Q4_K, torch.bfloat16)
    assert torch.equal(found.values(), whole.values()[order + 1])


def runner_of(folder: Path) -> TorchRunner:
    return load_runner(
        folder, TorchOptions(device="cpu", dtype="fp32", kv_cache_bytes=8 << 20, context_length=CONTEXT, threads=1)
    )


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1], ids=lambda kind: kind.name)
def test_products_of_few_rows_give_the_references_tokens(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["llama-biases-own-head"]
    weights = write(tmp_path / "model.gguf", recipe, kind=kind)
    used: list[int] = []
    monkeypatch.setattr(nibble_linear, "has_kernel", lambda dtype: True)  # in fp32 the kernel is right, but slow
    monkeypatch.setattr(nibble_linear, "MOST_ROWS", len(IDS))
    plain = NibbleLinear.forward

    def noting(self: NibbleLinear, inputs: torch.Tensor) -> torch.Tensor:
        used.append(inputs.shape[-2])
        return plain(self, inputs)

    monkeypatch.setattr(NibbleLinear, "forward", noting)
    found = log_probabilities_of(runner_of(tmp_path))
    assert used
    difference = np.abs(found - log_probabilities(recipe, weights, IDS))
    assert np.median(difference.max(1)) < 1e-4
    assert difference.max() < 1e-3
