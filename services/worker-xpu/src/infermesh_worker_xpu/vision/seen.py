"""Finds the features that a batch's image tokens get, and the runs of tokens that see each other."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from infermesh_engine.runners.images import runs_of
from infermesh_engine.runners.runner import Batch
from infermesh_worker_xpu.steps.device_step import ImageSpan, SeenPart

if TYPE_CHECKING:
    from infermesh_worker_xpu.vision.tower import VisionTower  # gpu.py runs without what images need


def see(batch: Batch, tower: "VisionTower", device: torch.device) -> SeenPart:
    """Looks at the images of a batch. What the last choice of a request has seen is not kept any longer."""
    parts: list[Tensor] = []
    for rows in batch.images:
        features = tower.features(rows.held)
        parts.append(features[rows.first : rows.first + len(rows.tokens)])
    seen = SeenPart(
        tokens=torch.from_numpy(np.concatenate([rows.tokens for rows in batch.images])).to(device),
        features=torch.cat(parts),
        spans=_spans(batch, device) if tower.sees_itself else (),
    )
    for rows in batch.images:
        if rows.ends_image:
            rows.held.passed(rows.choice)
    return seen


def _spans(batch: Batch, device: torch.device) -> tuple[ImageSpan, ...]:
    spans = []
    for first, last in runs_of(batch.images):
        sequence = int(np.searchsorted(batch.begins, first, side="right")) - 1
        blocks = batch.blocks[batch.block_begins[sequence] : batch.block_begins[sequence + 1]]
        spans.append(
            ImageSpan(
                first=first,
                tokens=last + 1 - first,
                position=int(batch.positions[first]),
                blocks=torch.from_numpy(blocks).to(device),
            )
        )
    return tuple(spans)
