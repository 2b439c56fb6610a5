"""Orders tokens on a device by logit, and equal logits by smaller id.

torch.topk and torch.sort leave open how equal logits are ordered and which of them are among the first k, and logits in
bf16 are often equal. So we rank tokens by integer keys that no two tokens share.
"""

import torch
from torch import Tensor

_IDS = 0x7FFFFFFF


def keys(logits: Tensor) -> Tensor:
    """Keys [S, V] int64 of float32 logits [S, V]; the token with the largest key ranks first."""
    bits = (logits + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    # flipping the magnitude bits of negative floats makes integer order equal float order
    ascending = bits ^ ((bits >> 31) & _IDS)
    ids = torch.arange(_IDS, _IDS - logits.shape[1], -1, device=logits.device)
    return (ascending.to(torch.int64) << 32) | ids


def token_ids(ranked: Tensor) -> Tensor:
    """The token ids that belong to keys."""
    return _IDS - (ranked & _IDS)


def top(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Ids and logits [S, count] of the first `count` ≤ V tokens of float32 logits [S, V]."""
    if count == 1:
        ids = logits.argmax(1, keepdim=True)
    elif count == logits.shape[1]:
        ids = token_ids(keys(logits).sort(1, descending=True).values)
    else:
        ids = token_ids(keys(logits).topk(count, 1).values)
    return ids, logits.gather(1, ids)
