"""Rotates queries and keys by their positions."""

from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_runtime.gguf_account.rope import frequencies
from infermesh_runtime.gguf_account.spec import RopeSpec


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines [batch, 1, tokens, dimensions] of the positions; both halves of the last axis are equal."""

    cosine: ov.Node
    sine: ov.Node
    dimensions: int


def rotation(positions: ov.Node, rope: RopeSpec, factors: NDArray[np.float32] | None) -> Rotation:
    """Computes the rotation of positions int64 [batch, tokens]."""
    inverse, magnitude = frequencies(rope, None if factors is None else factors.tolist())
    both = np.array([*inverse, *inverse], np.float32).reshape(1, 1, -1)
    places = ops.convert(ops.unsqueeze(positions, np.int64(2)), "f32")
    angle = ops.unsqueeze(ops.multiply(places, ops.constant(both)), np.int64(1))
    cosine, sine = ops.cos(angle), ops.sin(angle)
    if magnitude != 1.0:
        cosine, sine = (ops.multiply(node, np.float32(magnitude)) for node in (cosine, sine))
    return Rotation(cosine, sine, rope.dimensions)


def rotate(heads: ov.Node, by: Rotation, head_size: int) -> ov.Node:
    """Rotates [batch, heads, tokens, head size]; pairs are one number from each half of the first `dimensions`."""
    if by.dimensions == head_size:
        return _rotate_all(heads, by)
    turned = _rotate_all(_part(heads, 0, by.dimensions), by)
    return ops.concat([turned, _part(heads, by.dimensions, head_size)], -1)


def paired_by_halves(heads: int, head_size: int, dimensions: int) -> NDArray[np.int64]:
    """The order of rows that turns pairs of neighbours, as llama.cpp's converter stores them, into pairs of halves."""
    one = np.arange(head_size)
    one[:dimensions] = np.concatenate([np.arange(0, dimensions, 2), np.arange(1, dimensions, 2)])
    return (np.arange(heads)[:, None] * head_size + one).reshape(-1)


def _rotate_all(heads: ov.Node, by: Rotation) -> ov.Node:
    half = by.dimensions // 2
    negated = ops.multiply(_part(heads, half, by.dimensions), np.float32(-1).reshape(1, 1, 1, 1))
    swapped = ops.concat([negated, _part(heads, 0, half)], -1)
    return ops.add(ops.multiply(heads, by.cosine), ops.multiply(swapped, by.sine))


def _part(heads: ov.Node, begin: int, end: int) -> ov.Node:
    return ops.slice(heads, *(np.array([value], np.int64) for value in (begin, end, 1, 3)))
