"""Rewrites products so that their zeros are whole, which the CPU plugin needs to compute them in whole numbers.

A weight (q − z) · s with a fractional z is (q − Z) · s + c with the whole number Z next to z, and c = (Z − z) · s,
which is the same for all weights of a group. So c counts the sum of the group's inputs. These sums become more inputs,
and the c of all groups more weights of the same row: c as a digit, and where weights have 4 bits, the rest as a second.
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_worker_cpu.small_steps.products import Product, by_input

_DIGITS = {4: 2, 8: 1}
"""How many weights c takes, by the bits of each: an error of 1/255 of the largest c of the row."""


def rewrite(model: ov.Model) -> int:
    """Makes the zeros whole, and one product of those with the same input; returns how many products that leaves."""
    found = by_input(model)
    for products in found:
        first = products[0]
        source = _with_sums(first)
        merged = ops.matmul(source, _weights(products), False, True)
        parts = [len(product.quants) for product in products]
        outputs = ops.variadic_split(merged, np.int64(-1), np.array(parts, np.int64)).outputs()
        for product, output in zip(products, outputs if len(parts) > 1 else merged.outputs(), strict=True):
            for target in product.node.output(0).get_target_inputs():
                target.replace_source_output(output)
    model.validate_nodes_and_infer_types()
    return len(found)


def _with_sums(product: Product) -> ov.Node:
    """The product's input, followed by the sums of its groups, padded to whole groups, once for each digit."""
    source, groups, size = product.node.input_value(0), product.zero.shape[1], product.size
    shape = source.get_partial_shape()
    leading = [0] * (len(shape) - 1)
    parted = ops.reshape(source, np.array([*leading, groups, size], np.int64), special_zero=True)
    sums = ops.reduce_sum(parted, np.array([-1], np.int64), keep_dims=False)
    padding = -groups % size
    if padding:
        sums = ops.pad(sums, [0] * len(shape), [*leading, padding], "constant", np.float32(0))
    return ops.concat([source, *[sums] * _DIGITS[product.bits]], -1)


def _weights(products: Sequence[Product]) -> ov.Node:
    """The rows of all products, float32 [rows, columns]."""
    bits, size = products[0].bits, products[0].size
    zero, scale = (np.concatenate([getattr(one, name) for one in products]) for name in ("zero", "scale"))
    whole = np.clip(np.rint(zero), 0, 255)
    digits, units = _digits((whole - zero) * scale, bits, size)
    quants = np.concatenate([np.concatenate([one.quants for one in products]), _packed(digits, bits)], axis=1)
    middle = np.full(units.shape, 1 << bits - 1, np.uint8)
    zeros = np.concatenate([whole.astype(np.uint8), middle], axis=1)
    rows, groups = zeros.shape
    # The tensor owns its memory, which the constant shares.
    tensor = ov.Tensor(ov.Type.u4 if bits == 4 else ov.Type.u8, ov.Shape([rows, groups, size]))
    tensor.data.reshape(-1)[...] = quants.reshape(-1)
    node = ops.convert(ov.op.Constant(tensor), "f32")
    node = ops.subtract(node, ops.convert(ops.constant(zeros[:, :, None]), "f32"))
    node = ops.multiply(node, ops.constant(np.concatenate([scale, units], axis=1)[:, :, None]))
    return ops.reshape(node, np.array([rows, groups * size], np.int64), special_zero=False)


def _digits(values: NDArray[np.float32], bits: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """`values` [rows, groups] as whole numbers [rows, columns], and the unit of each group of these columns.

    Columns beyond the groups stand for 0.
    """
    middle = 1 << bits - 1
    rows, groups = values.shape
    padded = -(-groups // size) * size
    unit = np.maximum(np.abs(values).max(axis=1, keepdims=True), np.float32(1e-12)) / np.float32(middle - 1)
    digits, units = [], []
    for _ in range(_DIGITS[bits]):
        digit = np.clip(np.rint(values / unit), 1 - middle, middle - 1)
        values = values - digit * unit
        columns = np.full((rows, padded), middle, np.uint8)
        columns[:, :groups] = digit + middle
        digits.append(columns)
        units.append(np.repeat(unit, padded // size, axis=1))
        unit = unit / np.float32(2 * (middle - 1))  # what is left is at most half a unit
    return np.concatenate(digits, axis=1), np.concatenate(units, axis=1)


def _packed(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return numbers
    packed: NDArray[np.uint8] = np.bitwise_or(numbers[:, 0::2], np.left_shift(numbers[:, 1::2], np.uint8(4)))
    return packed
