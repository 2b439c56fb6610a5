"""Draws random tokens with a Triton kernel, on CUDA and XPU.

It takes a dozen operations where torch takes ninety, and sorts no row. Only `choose_draw` waits for the device. Without
Triton this module can be imported, but `draw` cannot be called.
"""

# Triton may be absent:
# mypy: disable-error-code="import-untyped, import-not-found"
# ruff: noqa: PLC0415 - Triton may be absent, so the kernel is imported where it is called

import logging

import torch
from torch import Tensor

from infermesh_engine.runners.runner import CANDIDATES
from infermesh_worker_xpu.attention import triton_attention
from infermesh_worker_xpu.sampling import drawing, ranking
from infermesh_worker_xpu.sampling.drawing import Draw
from infermesh_worker_xpu.sampling.sampling_tensors import DrawTensors, sum_dtype

_log = logging.getLogger(__name__)

_BLOCK = 1024
_WARPS = 8


def choose_draw(device: torch.device) -> Draw:
    """Chooses how to draw on a device: `draw` if it compiles and gives the same tokens as torch, else torch.

    Compiles the kernel and waits for the device, so call it at load.
    """
    if device.type == "cpu" or not triton_attention.available(device):
        return drawing.draw
    logits, draws = trial_rows(device)
    try:
        agrees = torch.equal(draw(logits, draws), drawing.draw(logits, draws))
        problem = "" if agrees else "the kernel draws other tokens than torch"
    except Exception as error:  # exceptions of vendors' compilers have no common class
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if problem:
        _log.warning("tokens are drawn by sorting, without Triton", extra={"reason": problem})
        return drawing.draw
    return draw


def trial_rows(device: torch.device, *, vocab_size: int = 1111) -> tuple[Tensor, DrawTensors]:
    """Test rows with every kind of filter; for most, the first tokens do not decide."""
    filters = [(0, 1.0, 0.0), (0, 0.9, 0.0), (0, 1.0, 0.02), (70, 1.0, 0.0), (90, 0.8, 0.0), (40, 0.95, 0.01)]
    rows = 2 * len(filters)
    top_k, top_p, min_p = (torch.tensor(values).repeat(2) for values in zip(*filters, strict=True))
    logits = torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(1))
    logits[1::2] = (2 * logits[1::2]).bfloat16().float()  # rounding makes some logits equal
    uniforms = (torch.arange(rows) + 0.4) / rows
    floats = torch.stack([torch.linspace(0.6, 1.4, rows), top_p, min_p, uniforms]).to(device, sum_dtype(device))
    at = torch.arange(rows, device=device)
    return logits.to(device), DrawTensors(rows=at, floats=floats, top_k=top_k.to(device), open_rows=at)


def draw(logits: Tensor, draws: DrawTensors) -> Tensor:
    """`drawing.Draw` on Triton."""
    rows, vocab_size = logits.shape
    if vocab_size <= CANDIDATES:
        return drawing.draw(logits, draws)
    from triton import language as tl

    from infermesh_worker_xpu.sampling.triton_draw_kernels import draw_kernel

    largest, most_probable = logits.max(1, keepdim=True)
    tokens = torch.empty_like(draws.top_k)
    draw_kernel[(rows,)](
        logits.contiguous(),
        ranking.keys(logits).topk(CANDIDATES, 1).values,
        draws.floats,
        draws.top_k,
        tokens,
        rows,
        vocab_size,
        K=CANDIDATES,
        SUM=tl.float64 if draws.floats.dtype == torch.float64 else tl.float32,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return drawing.unless_broken(tokens, largest, most_probable)
