"""Finds the largest logits of each row on processors, several times as fast as torch's topk over a whole vocabulary."""

import torch
from torch import Tensor

_CHUNK = 64


def largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and indices [R, count] of the `count` largest of each row [R, n], largest first; ties in any order.

    The largest `count` numbers lie in the `count` chunks with the largest maxima, so only those are sorted.
    """
    rows, size = logits.shape
    chunks = size // _CHUNK
    if chunks <= 2 * count:  # sorting all costs no more
        return tuple(logits.topk(count, dim=1))
    whole = chunks * _CHUNK
    chunked = logits[:, :whole].unflatten(1, (chunks, _CHUNK))
    chosen = chunked.amax(2).topk(count, dim=1, sorted=False).indices
    values = chunked.gather(1, chosen[..., None].expand(rows, count, _CHUNK)).flatten(1)
    ids = (chosen[..., None] * _CHUNK + torch.arange(_CHUNK)).flatten(1)
    rest = torch.arange(whole, size).expand(rows, -1)
    values, ids = torch.cat((values, logits[:, whole:]), 1), torch.cat((ids, rest), 1)
    found, places = values.topk(count, dim=1)
    return found, ids.gather(1, places)
