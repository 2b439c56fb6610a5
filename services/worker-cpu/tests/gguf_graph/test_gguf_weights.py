"""Every quantised type is taken apart without loss, and OpenVINO multiplies by what the file stores."""

from pathlib import Path

import gguf
import numpy as np
import openvino as ov
import pytest
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.gguf_graph.weights import GROUPED, Weights, check_readable
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import finish, write

ROWS, COLUMNS = 24, 512
HALVES = {
    Kind.Q4_1: (0, 2),
    Kind.Q5_1: (0, 2),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q6_K: (208,),
    Kind.MXFP4: (),
    Kind.TQ1_0: (52,),
    Kind.TQ2_0: (64,),
}
"""Where blocks hold float16 scales; other types: at byte 0."""


def random_blocks(kind: Kind) -> NDArray[np.uint8]:
    """Rows of blocks whose bits are random, except that scales are finite and a few are zero."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(int(kind))
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // block, size), dtype=np.uint8)
    for at in HALVES.get(kind, (0,)):
        halves = (rng.standard_normal(len(blocks)) * 0.02).astype(np.float16)
        halves[:2] = 0
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(-1, 2)
    if HALVES.get(kind) == (0, 2):  # a group that is constant: no scale, but a minimum
        blocks[2, :2] = 0
    if kind == Kind.MXFP4:
        blocks[:, 0] = rng.integers(110, 130, len(blocks))
    return blocks.reshape(ROWS, -1)


@pytest.mark.parametrize("kind", GROUPED, ids=lambda kind: kind.name)
def test_groups_hold_the_values_of_the_file(kind: Kind) -> None:
    rows = random_blocks(kind)
    expected = gguf.dequantize(rows, kind)
    got = GROUPED[kind](rows.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1]), ROWS).values()
    assert np.abs(got - expected).max() <= 2e-7 * np.abs(expected).max()


def test_openvino_multiplies_by_them(tmp_path: Path) -> None:
    path = tmp_path / "matrices.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    stored = {kind: random_blocks(kind) for kind in GROUPED}
    for kind, rows in stored.items():
        writer.add_tensor(kind.name, rows, raw_dtype=kind)
    half = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    for kind in (Kind.F32, Kind.F16, Kind.BF16):
        stored[kind] = gguf.quantize(half, kind)
        writer.add_tensor(kind.name, stored[kind], raw_dtype=kind)
    finish(writer)
    weights, state = Weights(GgufFile(path)), np.random.default_rng(1).standard_normal((2, COLUMNS)).astype(np.float32)
    parameter = ops.parameter([-1, COLUMNS], np.float32)
    products = [ops.matmul(parameter, weights.matrix(Linear(kind.name, 0, ROWS)), False, True) for kind in stored]
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    compiled = ov.Core().compile_model(ov.Model([ops.result(node) for node in products], [parameter]), "CPU", exact)
    for (kind, rows), output in zip(stored.items(), compiled([state]).values(), strict=True):
        expected = state.astype(np.float64) @ gguf.dequantize(rows, kind).T
        assert np.abs(output - expected).max() < 1e-5 * np.abs(expected).max() + 1e-5, kind.name


def test_stacked_matrices_hold_the_values_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "matrices.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    stored = {kind: random_blocks(kind).reshape(3, 8, -1) for kind in GROUPED}
    half = np.random.default_rng(0).standard_normal((3, 8, 512)).astype(np.float32)
    stored |= {kind: gguf.quantize(half, kind) for kind in (Kind.F32, Kind.F16, Kind.BF16)}
    for kind, values in stored.items():
        writer.add_tensor(kind.name, values, raw_dtype=kind)
    finish(writer)
    weights = Weights(GgufFile(path))
    nodes = [weights.stacked(Linear(kind.name, 2, 5)) for kind in stored]
    compiled = ov.Core().compile_model(ov.Model([ops.result(node) for node in nodes], []), "CPU")
    for (kind, values), output in zip(stored.items(), compiled([]).values(), strict=True):
        expected = gguf.dequantize(values, kind)[:, 2:7]
        assert output.shape == (3, 5, 512)
        assert np.abs(output - expected).max() <= 1e-3 * np.abs(expected).max(), kind.name


def test_a_type_that_cannot_be_read_is_named() -> None:
    with pytest.raises(FailedPrecondition, match="tensor x has the type I8"):
        check_readable("x", Kind.I8)


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.1.ffn_down.weight", "blk.0.attn_q.bias"])
def test_a_value_that_is_not_finite_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, RECIPES["qwen2"])
    reader = gguf.GGUFReader(path, "r+")
    next(tensor for tensor in reader.tensors if tensor.name == name).data[...].reshape(-1)[3] = np.nan
    reader.data.flush()
    with pytest.raises(InvalidArgument, match=f"{name} has values that are NaN"):
        save_graph(path, tmp_path / "model.xml", lambda what, share: None)
