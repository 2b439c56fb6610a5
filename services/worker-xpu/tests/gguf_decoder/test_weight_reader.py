"""The weights of a GGUF file become torch parameters with the values of the file, or are refused by name."""

import re
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_xpu.gguf_decoder import weight_reader
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader
from tests.gguf_files.recipes import finish

ROWS, COLUMNS = 6, 256
KINDS = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0)
Values = NDArray[np.float32]


def reader_of(folder: Path, tensors: Mapping[str, tuple[Values, Kind]], dtype: torch.dtype) -> WeightReader:
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    finish(writer)
    return WeightReader(GgufFile(folder / "model.gguf"), torch.device("cpu"), dtype)


def random(*shape: int) -> Values:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def as_stored(values: Values, kind: Kind) -> Values:
    stored: Values = gguf.dequantize(gguf.quantize(values, kind), kind)
    return stored


def test_every_type_keeps_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_reader, "_PART_NUMBERS", 2 * COLUMNS)  # parts of two rows
    values = random(ROWS, COLUMNS)
    weights = reader_of(tmp_path, {kind.name: (values, kind) for kind in KINDS}, torch.float32)
    order = np.array([3, 0, 2, 1], np.int64)
    for kind in KINDS:
        part = Linear(kind.name, 1, 4)
        assert np.array_equal(weights.matrix(part), as_stored(values, kind)[1:5])
        assert np.array_equal(weights.matrix(part, order), as_stored(values, kind)[1:5][order])


def test_biases_are_cut_and_ordered_as_their_matrix(tmp_path: Path) -> None:
    tensors = {"qkv.weight": (random(ROWS, 32), Kind.F32), "qkv.bias": (random(ROWS), Kind.F32)}
    layer = reader_of(tmp_path, tensors, torch.float32).linear(
        Linear("qkv.weight", 2, 3, "qkv.bias"), np.array([2, 0, 1], np.int64)
    )
    assert np.array_equal(layer.bias, tensors["qkv.bias"][0][[4, 2, 3]])
    assert np.array_equal(layer.weight, tensors["qkv.weight"][0][[4, 2, 3]])


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0], ids=lambda kind: kind.name)
def test_stacks_of_experts_are_joined_by_expert(kind: Kind, tmp_path: Path) -> None:
    gates, ups = random(3, 4, 32), random(3, 5, 32) * 2
    weights = reader_of(tmp_path, {"gates": (gates, kind), "ups": (ups, kind)}, torch.float32)
    joined = weights.stacks(Linear("gates", 0, 4), Linear("ups", 1, 2))
    assert np.array_equal(joined, np.concatenate([as_stored(gates, kind), as_stored(ups, kind)[:, 1:3]], 1))


def test_values_are_rounded_once_to_the_models_precision(tmp_path: Path) -> None:
    values = random(ROWS, COLUMNS)
    weight = reader_of(tmp_path, {"a.weight": (values, Kind.Q8_0)}, torch.bfloat16).matrix(Linear("a.weight", 0, ROWS))
    assert torch.equal(weight, torch.from_numpy(as_stored(values, Kind.Q8_0)).bfloat16())


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_name(wrong: float, tmp_path: Path) -> None:
    values = random(ROWS, COLUMNS)
    values[4, 7] = wrong
    weights = reader_of(tmp_path, {"a.weight": (values, Kind.F16)}, torch.float32)
    with pytest.raises(InvalidArgument, match=re.escape("a.weight has values that are NaN or infinite")):
        weights.matrix(Linear("a.weight", 0, ROWS))


def test_a_value_that_the_precision_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    weights = reader_of(tmp_path, {"a.weight": (random(ROWS, COLUMNS) - 1e5, Kind.BF16)}, torch.float16)
    with pytest.raises(FailedPrecondition, match=r"a\.weight .* torch\.float16 cannot hold"):
        weights.matrix(Linear("a.weight", 0, ROWS))
