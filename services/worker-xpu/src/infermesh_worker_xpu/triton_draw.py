"""Owns drawing undecided rows through Triton, for CUDA and XPU. A machine without Triton can import this, not call it.

Does not wait for the device: a row that is decided costs its program one load.
"""

# Triton may be absent:
# mypy: disable-error-code="import-untyped, import-not-found"
# ruff: noqa: PLC0415 - so the kernel is imported where it is called

import logging

import torch
from torch import Tensor

from . import triton_attention
from .drawing import DrawOpen, OpenRows, draw_by_sorting, numbers_of
from .inversion import total_weights
from .sampling_upload import DrawTensors, wide

_log = logging.getLogger(__name__)

_BLOCK = 1024
_WARPS = 8


def choose(device: torch.device) -> DrawOpen:
    """The way to draw on a device: `draw_open` where it compiles and draws what sorting does, else sorting.

    Waits for the device, and compiles: for loading.
    """
    if device.type == "cpu" or not triton_attention.available(device):
        return draw_by_sorting
    rows = trial(device)
    try:
        agrees = torch.equal(draw_open(rows), draw_by_sorting(rows))
        problem = "" if agrees else "it draws other tokens"
    except Exception as error:  # a boundary: what a vendor's compiler raises has no common class
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if problem:
        _log.warning("tokens are drawn without Triton, by sorting", extra={"reason": problem})
        return draw_by_sorting
    return draw_open


def trial(device: torch.device, *, vocab_size: int = 1111) -> OpenRows:
    """Undecided rows with every kind of filter."""
    filters = [(0, 1.0, 0.0), (0, 0.9, 0.0), (0, 1.0, 0.02), (70, 1.0, 0.0), (90, 0.8, 0.0), (200, 0.95, 0.01)]
    rows = 2 * len(filters)
    top_k, top_p, min_p = (torch.tensor(values).repeat(2) for values in zip(*filters, strict=True))
    logits = torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(1))
    logits[1::2] = (2 * logits[1::2]).bfloat16().float()  # with equals
    uniforms = torch.arange(rows) / rows
    floats = torch.stack([torch.linspace(0.6, 1.4, rows), top_p, min_p, uniforms]).to(device, wide(device))
    at = torch.arange(rows, device=device)
    draws = DrawTensors(rows=at, floats=floats, top_k=top_k.to(device), open_rows=at)
    logits = logits.to(device)
    largest = logits.amax(1, keepdim=True)
    totals = total_weights(logits, largest, numbers_of(draws))
    return OpenRows(logits, largest, totals, draws, torch.zeros_like(at), at == 3)


def draw_open(open_rows: OpenRows) -> Tensor:
    """`drawing.DrawOpen`."""
    from triton import language as tl

    from .triton_draw_kernels import draw_kernel

    rows, vocab_size = open_rows.logits.shape
    tokens = open_rows.chosen.clone()
    draws = open_rows.draws
    draw_kernel[(rows,)](
        open_rows.logits.contiguous(),
        open_rows.largest.contiguous(),
        open_rows.totals,
        draws.floats,
        draws.top_k,
        open_rows.decided.to(torch.int32),
        tokens,
        rows,
        vocab_size,
        SUM=tl.float64 if draws.floats.dtype == torch.float64 else tl.float32,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return tokens
