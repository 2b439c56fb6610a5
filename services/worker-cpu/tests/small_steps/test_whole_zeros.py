"""Products with whole zeros and sums of inputs give what the products with fractional zeros gave."""

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_worker_cpu.small_steps.products import by_input, quantised_share
from infermesh_worker_cpu.small_steps.whole_zeros import rewrite

UNQUANTISED = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
"""Quantised activations differ by a hundredth, more than what is tested here."""
ROWS = (24, 40)


def weights(rows: int, groups: int, bits: int, size: int) -> ov.Node:
    """Random weights with fractional zeros, some of them outside the range of the numbers; one group is constant."""
    rng = np.random.default_rng(rows * groups + bits)
    zero = (rng.random((rows, groups, 1)) * 1.4 - 0.2).astype(np.float32) * ((1 << bits) - 1)
    zero[0, 0] = 1
    scale = (rng.standard_normal((rows, groups, 1)) * 0.02).astype(np.float32)
    tensor = ov.Tensor(ov.Type.u4 if bits == 4 else ov.Type.u8, ov.Shape([rows, groups, size]))
    tensor.data.reshape(-1)[...] = rng.integers(0, 256, tensor.data.size, dtype=np.uint8)
    node = ops.multiply(ops.subtract(ops.convert(ov.op.Constant(tensor), "f32"), ops.constant(zero)), scale)
    return ops.reshape(node, np.array([rows, groups * size], np.int64), special_zero=False)


def model(groups: int, bits: int, size: int) -> ov.Model:
    """Two products of one input, as of gate and up, then one of their results."""
    hidden = ops.parameter(ov.PartialShape([-1, 1, groups * size]), np.float32)
    first, second = (ops.matmul(hidden, weights(rows, groups, bits, size), False, True) for rows in ROWS)
    joined = ops.concat([first, second], -1)
    last = ops.matmul(joined, weights(16, sum(ROWS) // size, bits, size), False, True)
    return ov.Model([ops.result(joined), ops.result(last)], [hidden])


def computed(made: ov.Model, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    compiled = ov.Core().compile_model(made, "CPU", UNQUANTISED)
    return [np.array(value) for value in compiled(inputs).values()]


@pytest.mark.parametrize(("groups", "size"), [(18, 32), (32, 32), (24, 16)])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_rewritten_products_are_the_same(groups: int, size: int, bits: int) -> None:
    inputs = np.random.default_rng(7).standard_normal((5, 1, groups * size)).astype(np.float32) + 1
    expected = computed(model(groups, bits, size), inputs)
    rewritten = model(groups, bits, size)
    assert rewrite(rewritten) == 2  # the two products of one input are one
    for got, want in zip(computed(rewritten, inputs), expected, strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() < 4e-3 * np.abs(want).max()


def test_products_of_other_forms_stay_as_they_are() -> None:
    hidden = ops.parameter(ov.PartialShape([-1, 64]), np.float32)
    symmetric = ops.multiply(ops.convert(ops.constant(np.ones((8, 64), np.int8)), "f32"), np.float32(0.5))
    plain = ov.Model([ops.result(ops.matmul(hidden, symmetric, False, True))], [hidden])
    assert by_input(plain) == []
    assert rewrite(plain) == 0


def test_the_share_counts_matrices_of_whole_numbers() -> None:
    hidden = ops.parameter(ov.PartialShape([-1, 64]), np.float32)
    whole = ops.matmul(hidden, weights(30, 2, 4, 32), False, True)
    floats = ops.matmul(hidden, ops.constant(np.ones((10, 64), np.float32)), False, True)
    computed_weights = ops.matmul(hidden, hidden, False, True)
    results = [ops.result(node) for node in (whole, floats, computed_weights)]
    assert quantised_share(ov.Model(results, [hidden])) == 0.75
    assert quantised_share(ov.Model([results[2]], [hidden])) == 0.0
