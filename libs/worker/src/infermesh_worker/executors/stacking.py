"""Joins the tensors of several items along their first dimension, and takes results apart again."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Result

OUTPUTS = "outputs"
"""Name of the parameter that lists the outputs to return."""


def rows(item: Item) -> int:
    """The first dimension of its tensors, at least 1."""
    return max((array.shape[0] for array in item.tensors.values() if array.ndim), default=1) or 1


def stackable(item: Item) -> Hashable | None:
    """Equal for items that can be joined: the same names, dtypes, and shapes but for the first dimension.

    None for one that cannot be joined: a tensor is a scalar, or first dimensions differ or are 0.
    """
    extents = {array.shape[0] if array.ndim else 0 for array in item.tensors.values()}
    if len(extents) != 1 or 0 in extents:
        return None
    return tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in item.tensors.items()))


def stack(items: Sequence[Item]) -> Mapping[str, Array]:
    """The tensors of items of one group, joined; those of a single item without a copy."""
    if len(items) == 1:
        return items[0].tensors
    return {name: np.concatenate([item.tensors[name] for item in items]) for name in items[0].tensors}


def results(outputs: Mapping[str, Array], items: Sequence[Item]) -> list[Result]:
    """What each item's rows became, as views: the outputs that it asks for, or all.

    Raises FailedPrecondition if an output does not have a row for each input row: the items must then run alone.
    """
    parts = _split(outputs, items)
    return [
        Result(tensors={name: part[name] for name in item.params.get(OUTPUTS) or part})
        for item, part in zip(items, parts, strict=True)
    ]


def _split(outputs: Mapping[str, Array], items: Sequence[Item]) -> list[Mapping[str, Array]]:
    if len(items) == 1:
        return [outputs]
    counts = [rows(item) for item in items]
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != sum(counts):
            raise FailedPrecondition(
                f"output {name!r} of shape {list(array.shape)} has not one row for each of {sum(counts)}"
            )
    bounds = pairwise(np.cumsum([0, *counts]))
    return [{name: array[begin:end] for name, array in outputs.items()} for begin, end in bounds]
