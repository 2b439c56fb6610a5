"""Merges products of one input, such as query, key and value, into one wider product, which the CPU plugin runs faster.

Knows the form of weights that gguf_graph makes of types with a minimum (Q4_1, Q4_K, Q5_1, Q5_K, Q2_K); others stay.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

_LOOKED_THROUGH = {"Convert", "Reshape"}
_MATRIX = 3
"""Dimensions of a matrix in groups: rows, groups, weights of a group. Those of experts have one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """x · Wᵀ with W = (quants − zero) · scale."""

    node: ov.Node
    kind: str
    """u4 or u8"""
    quants: NDArray[np.uint8]
    """[rows, bytes], packed as OpenVINO does."""
    zero: NDArray[np.float32]
    """[rows, groups, 1]"""
    scale: NDArray[np.float32]
    """[rows, groups, 1]"""
    size: int
    """Weights of a group."""


def merge_products(model: ov.Model) -> int:
    """Replaces the products that share an input and a form of weights; returns how many wider ones there are then."""
    found: dict[tuple[str, int, str, int], list[_Product]] = defaultdict(list)
    for node in model.get_ordered_ops():
        product = _product(node) if node.get_type_name() == "MatMul" else None
        if product is not None:
            source = node.input_value(0)
            found[source.get_node().get_friendly_name(), source.get_index(), product.kind, product.size].append(product)
    several = [products for products in found.values() if len(products) > 1]
    for products in several:
        merged = ops.matmul(products[0].node.input_value(0), _weights(products), False, True)
        rows = np.array([len(product.quants) for product in products], np.int64)
        for product, part in zip(products, ops.variadic_split(merged, np.int64(-1), rows).outputs(), strict=True):
            for target in product.node.output(0).get_target_inputs():
                target.replace_source_output(part)
    model.validate_nodes_and_infer_types()
    return len(several)


def _product(node: ov.Node) -> _Product | None:
    scaled = _skipped(node.input_value(1).get_node())
    if scaled.get_type_name() != "Multiply":
        return None
    shifted, scale = scaled.input_value(0).get_node(), _constant(scaled.input_value(1).get_node())
    if shifted.get_type_name() != "Subtract" or scale is None:
        return None
    quants, zero = (_constant(shifted.input_value(index).get_node()) for index in (0, 1))
    if quants is None or zero is None or _kind(quants) not in {"u4", "u8"} or {_kind(zero), _kind(scale)} != {"f32"}:
        return None
    shape = list(quants.get_output_shape(0))
    if len(shape) != _MATRIX or any(list(one.get_output_shape(0)) != [*shape[:2], 1] for one in (zero, scale)):
        return None
    rows, _, size = shape
    return _Product(
        node=node, kind=_kind(quants), quants=quants.data.reshape(rows, -1), zero=zero.data, scale=scale.data, size=size
    )


def _weights(products: Sequence[_Product]) -> ov.Node:
    """The rows of all products, float32 [rows, columns]."""
    quants, zero, scale = (
        np.concatenate([getattr(product, name) for product in products]) for name in ("quants", "zero", "scale")
    )
    rows, groups, _ = zero.shape
    kind = ov.Type.u4 if products[0].kind == "u4" else ov.Type.u8
    tensor = ov.Tensor(kind, ov.Shape([rows, groups, products[0].size]))  # it owns its memory; the constant shares it
    tensor.data.reshape(-1)[...] = quants.reshape(-1)
    node = ops.subtract(ops.convert(ov.op.Constant(tensor), "f32"), ops.constant(zero))
    columns = groups * products[0].size
    return ops.reshape(ops.multiply(node, ops.constant(scale)), np.array([rows, columns], np.int64), special_zero=False)


def _skipped(node: ov.Node) -> ov.Node:
    while node.get_type_name() in _LOOKED_THROUGH:
        node = node.input_value(0).get_node()
    return node


def _constant(node: ov.Node) -> ov.Node | None:
    node = _skipped(node)
    return node if node.get_type_name() == "Constant" else None


def _kind(constant: ov.Node) -> str:
    name: str = constant.get_output_element_type(0).to_string()
    return name
