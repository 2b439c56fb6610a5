"""Merged products give what the single ones gave."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker_cpu.convert_model import XML
from infermesh_worker_cpu.graph import read
from infermesh_worker_cpu.merged_products import merge_products

UNQUANTISED = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
ROWS = (24, 40, 8)
GROUPS, SIZE = 18, 32


def weights(rows: int, bits: int) -> ov.Node:
    rng = np.random.default_rng(rows + bits)
    tensor = ov.Tensor(ov.Type.u4 if bits == 4 else ov.Type.u8, ov.Shape([rows, GROUPS, SIZE]))
    tensor.data.reshape(-1)[...] = rng.integers(0, 256, tensor.data.size, dtype=np.uint8)
    zero, scale = (rng.standard_normal((rows, GROUPS, 1)).astype(np.float32) for _ in range(2))
    node = ops.multiply(ops.subtract(ops.convert(ov.op.Constant(tensor), "f32"), zero), scale)
    return ops.reshape(node, np.array([rows, GROUPS * SIZE], np.int64), special_zero=False)


def model(bits: tuple[int, ...]) -> ov.Model:
    """Products of one input, in the order of ROWS."""
    hidden = ops.parameter(ov.PartialShape([-1, 1, GROUPS * SIZE]), np.float32)
    products = [ops.matmul(hidden, weights(*form), False, True) for form in zip(ROWS, bits, strict=True)]
    return ov.Model([ops.result(product) for product in products], [hidden])


def computed(made: ov.Model, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [np.array(value) for value in ov.Core().compile_model(made, "CPU", UNQUANTISED)(inputs).values()]


@pytest.mark.parametrize("bits", [(4, 4, 4), (8, 8, 8), (4, 8, 4)])
def test_merged_products_are_the_same(bits: tuple[int, ...]) -> None:
    inputs = np.random.default_rng(7).standard_normal((5, 1, GROUPS * SIZE)).astype(np.float32)
    merged = model(bits)
    assert merge_products(merged) == 1  # of mixed bits, only the two products of 4 bits
    for got, want in zip(computed(merged, inputs), computed(model(bits), inputs), strict=True):
        assert got.shape == want.shape
        assert np.allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_other_products_stay_as_they_are() -> None:
    hidden = ops.parameter(ov.PartialShape([-1, 64]), np.float32)
    symmetric = ops.multiply(ops.convert(ops.constant(np.ones((8, 64), np.int8)), "f32"), np.float32(0.5))
    floats = ops.constant(np.ones((8, 64), np.float32))
    results = [ops.result(ops.matmul(hidden, each, False, True)) for each in (symmetric, floats)]
    assert merge_products(ov.Model(results, [hidden])) == 0


def test_the_default_model_has_two_merged_products_a_layer(default_model: Path, fast_model: BuiltModel) -> None:
    layers = 30
    graph = read(ov.Core(), default_model / "openvino" / XML)
    assert merge_products(graph) == 2 * layers  # query, key and value; gate and up
    assert fast_model.runner.info.vocab_size == graph.output("logits").partial_shape[-1].get_length()
