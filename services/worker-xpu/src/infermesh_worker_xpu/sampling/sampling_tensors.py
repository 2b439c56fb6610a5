"""Copies a `SamplingBatch` to a device, all of it in one copy.

A second copy would wait for a buffer that the device reads only after its forward pass.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infermesh_engine.runners.runner import CANDIDATES
from infermesh_engine.runners.sampling_runner import DrawnRows, LogitEdits, SamplingBatch
from infermesh_worker_xpu.steps.upload import Upload

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class DrawTensors:
    """`DrawnRows` on a device: D rows."""

    rows: Tensor
    """[D] int64"""
    floats: Tensor
    """[4, D]: inverse temperatures, top_p, min_p, uniforms."""
    top_k: Tensor
    """[D] int64"""
    open_rows: Tensor
    """Indices of the D rows that the first CANDIDATES tokens may not decide, as far as the host can tell."""


@dataclass(frozen=True, slots=True)
class EditTensors:
    """`LogitEdits` on a device. A place is row × vocab + token id."""

    bias_places: Tensor
    bias: Tensor
    seen_places: Tensor
    seen_rows: Tensor
    seen_counts: Tensor
    penalties: Tensor
    mask_rows: Tensor
    masks: Tensor
    banned_places: Tensor


@dataclass(frozen=True, slots=True)
class LogprobRequest:
    """Which rows want log probabilities, and how many."""

    rows: Tensor
    """[A] int64"""
    alternatives: int
    """The largest number of alternatives that any of these rows wants."""


@dataclass(frozen=True, slots=True)
class SamplingTensors:
    """A sampling batch of R rows on a device."""

    rows: int
    draws: DrawTensors | None
    edits: EditTensors | None
    asked: LogprobRequest | None


def sum_dtype(device: torch.device) -> torch.dtype:
    """Float dtype in which probabilities are summed: some Intel GPUs have no float64."""
    return torch.float32 if device.type == "xpu" else torch.float64


def upload_batch(batch: SamplingBatch, vocab_size: int, upload: Upload, floats: torch.dtype) -> SamplingTensors:
    """Queues the copy of a batch; `floats` is the `sum_dtype` of the device."""
    arrays: Arrays = {}
    if batch.draws is not None:
        arrays |= _of_draws(batch.draws, floats)
    if batch.edits is not None:
        arrays |= _of_edits(batch.edits, vocab_size)
    if batch.alternatives is not None:
        arrays["asked"] = np.flatnonzero(batch.alternatives >= 0)
    sent = dict(zip(arrays, upload.send(list(arrays.values())), strict=True)) if arrays else {}
    return SamplingTensors(
        rows=batch.rows,
        draws=None if batch.draws is None else DrawTensors(*(sent[name] for name in DrawTensors.__slots__)),
        edits=None if batch.edits is None else EditTensors(*(sent[name] for name in EditTensors.__slots__)),
        asked=None if batch.alternatives is None else LogprobRequest(sent["asked"], int(batch.alternatives.max())),
    )


def _of_draws(draws: DrawnRows, floats: torch.dtype) -> Arrays:
    columns = np.stack([draws.inverse_temperatures, draws.top_p, draws.min_p, draws.uniforms])
    return {
        "rows": draws.rows,
        "floats": columns.astype(np.float32) if floats == torch.float32 else columns,
        "top_k": draws.top_k,
        "open_rows": np.flatnonzero((draws.top_k == 0) | (draws.top_k > CANDIDATES)),
    }


def _of_edits(edits: LogitEdits, vocab_size: int) -> Arrays:
    def places(rows: NDArray[np.int32], ids: NDArray[np.int32]) -> NDArray[np.int64]:
        return rows.astype(np.int64) * vocab_size + ids

    return {
        "bias_places": places(edits.bias_rows, edits.bias_ids),
        "bias": edits.bias,
        "seen_places": places(edits.seen_rows, edits.seen_ids),
        "seen_rows": edits.seen_rows.astype(np.int64),
        "seen_counts": edits.seen_counts,
        "penalties": edits.penalties,
        "mask_rows": edits.mask_rows.astype(np.int64),
        "masks": edits.masks,
        "banned_places": places(edits.banned_rows, edits.banned_ids),
    }
