"""Applies biases, penalties, masks and bans (`LogitEdits`) to logits on a device."""

import torch
from torch import Tensor

from infermesh_worker_xpu.sampling.sampling_tensors import EditTensors


def apply(logits: Tensor, edits: EditTensors) -> None:
    """Changes float32 logits [R, V], contiguous, in place."""
    flat = logits.view(-1)
    if len(edits.bias):
        flat.scatter_(0, edits.bias_places, flat[edits.bias_places] + edits.bias)
    if len(edits.seen_counts):
        flat.scatter_(0, edits.seen_places, _penalised(flat[edits.seen_places], edits))
    if len(edits.masks):
        allowed = _unpacked(edits.masks, logits.shape[1])
        logits.index_copy_(0, edits.mask_rows, logits[edits.mask_rows].masked_fill_(~allowed, float("-inf")))
    if len(edits.banned_places):
        flat.index_fill_(0, edits.banned_places, float("-inf"))


def _penalised(logits: Tensor, edits: EditTensors) -> Tensor:
    repetition, frequency, presence = edits.penalties[edits.seen_rows].unbind(1)
    counts = edits.seen_counts
    logits = torch.where(logits > 0, logits / repetition, logits * repetition)
    return logits - frequency * counts - presence * (counts > 0)


def _unpacked(masks: Tensor, width: int) -> Tensor:
    """Bits [M, ⌈width / 8⌉] uint8 to bools [M, width]."""
    places = torch.arange(8, dtype=torch.uint8, device=masks.device)
    bits = (masks[:, :, None] >> places) & 1
    return bits.view(len(masks), -1)[:, :width].bool()
