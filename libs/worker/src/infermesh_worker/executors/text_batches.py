"""Joins texts of about the same length into padded batches. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from infermesh_runtime.tensors import Array

_MOST_PADDING = 0.25
"""Largest share of a batch that is padding, if the batch is not small."""
_SMALL_TOKENS = 256
"""A batch of fewer tokens is not cut for its padding: starting another one would cost more."""


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts that run together, padded at their ends to the longest."""

    ids: Array
    """INT32 [texts, tokens]."""
    types: Array
    """INT32 [texts, tokens]: 0, and 1 for the second text of a pair."""
    mask: Array
    """INT32 [texts, tokens]: 1, and 0 where there is no token."""


def plan(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Indexes of the texts of each batch. None costs more than `most_tokens`, padding included, but for single texts.

    Longer ones come first, so that a failure for want of memory comes at once.
    """
    batch: list[int] = []
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        cost = lengths[batch[0]] * (len(batch) + 1) if batch else 0
        wasted = cost - filled - lengths[index]
        if batch and (cost > most_tokens or (cost > _SMALL_TOKENS and wasted > _MOST_PADDING * cost)):
            yield batch
            batch, filled = [], 0
        batch.append(index)
        filled += lengths[index]
    if batch:
        yield batch


def pad(texts: Sequence[tuple[Array, Array]], pad_id: int) -> TextBatch:
    """Joins (ids, types) of texts."""
    longest = max(len(ids) for ids, _ in texts)
    ids = np.full((len(texts), longest), pad_id, np.int32)
    types, mask = np.zeros_like(ids), np.zeros_like(ids)
    for row, (text_ids, text_types) in enumerate(texts):
        ids[row, : len(text_ids)] = text_ids
        types[row, : len(text_ids)] = text_types
        mask[row, : len(text_ids)] = 1
    return TextBatch(ids, types, mask)
