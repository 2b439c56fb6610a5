"""Owns the order of tokens on a device: by logit, equal ones by smaller id, exactly. Knows no sampling.

torch.topk and torch.sort leave the order of equal logits open, and which of them are among the first k; logits in bf16
are often equal. So tokens are ranked by integers that no two tokens share.
"""

import torch
from torch import Tensor

_IDS = 0x7FFFFFFF


def keys(logits: Tensor) -> Tensor:
    """[S, V] int64 that descend as the tokens rank, of float32 logits [S, V]."""
    bits = (logits + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    # flipping the magnitude of negative floats makes their bits ascend as they do
    ascending = bits ^ ((bits >> 31) & _IDS)
    ids = torch.arange(_IDS, _IDS - logits.shape[1], -1, device=logits.device)
    return (ascending.to(torch.int64) << 32) | ids


def token_ids(ranked: Tensor) -> Tensor:
    """The tokens that keys belong to."""
    return _IDS - (ranked & _IDS)


def top(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Ids and logits [S, count] of the first tokens of float32 logits [S, V], count ≤ V."""
    if count == 1:
        ids = logits.argmax(1, keepdim=True)
    elif count == logits.shape[1]:
        ids = token_ids(keys(logits).sort(1, descending=True).values)
    else:
        ids = token_ids(keys(logits).topk(count, 1).values)
    return ids, logits.gather(1, ids)
