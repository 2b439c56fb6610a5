"""Finds the products of a graph whose weights are packed in groups with a scale and a fractional zero each."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray

QUANTISED = {"u4", "i4", "u8", "i8"}
_LOOKED_THROUGH = {"Convert", "Reshape"}
_MATRIX = 3
"""Dimensions of a matrix in groups: rows, groups, weights of a group. Those of experts have one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """x · Wᵀ with W = (quants − zero) · scale."""

    node: ov.Node
    bits: int
    quants: NDArray[np.uint8]
    """[rows, bytes], packed as OpenVINO does: of two weights of 4 bits, the first is the lower half."""
    zero: NDArray[np.float32]
    """[rows, groups]"""
    scale: NDArray[np.float32]
    """[rows, groups]"""
    size: int
    """Weights of a group."""


def by_input(model: ov.Model) -> list[list[Product]]:
    """The products with fractional zeros, those of the same input and form together."""
    found: dict[tuple[str, int, int, int], list[Product]] = defaultdict(list)
    for node in _products(model):
        product = _grouped(node)
        if product is not None:
            source = node.input_value(0)
            key = (source.get_node().get_friendly_name(), source.get_index(), product.bits, product.size)
            found[key].append(product)
    return list(found.values())


def quantised_share(model: ov.Model) -> float:
    """Share of the weights in products that are whole numbers in matrices; 0.0 for a model without products.

    Matrices of experts count as not quantised, since in f32 they are not computed in whole numbers.
    """
    quantised = total = 0
    for node in _products(model):
        constant = _stored(node.input_value(1).get_node())
        if constant is not None:
            shape = list(constant.get_output_shape(0))
            total += int(np.prod(shape))
            quantised += int(np.prod(shape)) if _type(constant) in QUANTISED and len(shape) <= _MATRIX else 0
    return quantised / total if total else 0.0


def _stored(node: ov.Node) -> ov.Node | None:
    """The constant that holds a product's weights as they are stored; None where weights are computed."""
    while node.get_type_name() in {*_LOOKED_THROUGH, "Multiply", "Subtract", "Transpose"}:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _products(model: ov.Model) -> Iterator[ov.Node]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul")


def _grouped(node: ov.Node) -> Product | None:
    scaled = _skipped(node.input_value(1).get_node())
    if scaled.get_type_name() != "Multiply":
        return None
    shifted, scale = scaled.input_value(0).get_node(), _constant(scaled.input_value(1).get_node())
    if shifted.get_type_name() != "Subtract" or scale is None:
        return None
    quants, zero = (_constant(shifted.input_value(index).get_node()) for index in (0, 1))
    if quants is None or zero is None or _type(quants) not in {"u4", "u8"} or _type(zero) != "f32":
        return None
    shape = list(quants.get_output_shape(0))
    if len(shape) != _MATRIX or any(list(one.get_output_shape(0)) != [*shape[:2], 1] for one in (zero, scale)):
        return None
    rows, groups, size = shape
    return Product(
        node=node,
        bits=4 if _type(quants) == "u4" else 8,
        quants=quants.data.reshape(rows, -1),
        zero=zero.data.reshape(rows, groups),
        scale=scale.data.astype(np.float32).reshape(rows, groups),
        size=size,
    )


def _skipped(node: ov.Node) -> ov.Node:
    while node.get_type_name() in _LOOKED_THROUGH:
        node = node.input_value(0).get_node()
    return node


def _constant(node: ov.Node) -> ov.Node | None:
    node = _skipped(node)
    return node if node.get_type_name() == "Constant" else None


def _type(constant: ov.Node) -> str:
    name: str = constant.get_output_element_type(0).to_string()
    return name
