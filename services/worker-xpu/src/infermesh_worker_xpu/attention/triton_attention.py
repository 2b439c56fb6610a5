"""Paged attention on Triton for CUDA and XPU: says whether it can run, checks inputs, launches the kernels.

Caches are [num_blocks, block_size, kv_heads, head_dim], contiguous, one per layer for keys and one for values; slot =
block × block_size + offset. Query, key, value and out may be strided views whose last dimension is contiguous. A
sliding window of w lets position p see positions (p - w, p]; a soft cap turns scores into
softcap × tanh(score / softcap). Nothing here waits for the device or reads its values, so calls can be captured in a
graph. Tensors are on the current device. Without Triton this module can be imported, but its kernels cannot be called.
"""

# Triton has no types and may be absent:
# mypy: disable-error-code="import-untyped, import-not-found"
# ruff: noqa: PLC0415, PLR0917 - Triton may be absent, so kernels are imported where they are called; arguments are in
# the order of kernels.AttentionKernels

import functools
import importlib.util
import subprocess
from dataclasses import dataclass

import torch
from torch import Tensor

from infermesh_worker_xpu.attention import triton_tiles as tiling
from infermesh_worker_xpu.attention.spans import attend_span
from infermesh_worker_xpu.attention.triton_shapes import Geometry, check_caches, check_indices, check_rows

__all__ = ["Availability", "attend_span", "available", "decode", "prefill", "write_kv"]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the kernels can run on a device, and if not, why. Its truth value is `usable`."""

    usable: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.usable


def available(device: torch.device | None = None) -> Availability:
    """Whether the kernels can run on the device (default: torch's accelerator, else the CPU).

    On the CPU they run only under Triton's interpreter (TRITON_INTERPRET=1), whose bf16 dots are wrong in Triton 3.7.1.
    """
    device = device or torch.accelerator.current_accelerator() or torch.device("cpu")
    if importlib.util.find_spec("triton") is None:
        return Availability(False, "the package triton is not installed")
    from triton import knobs

    if device.type == "cpu":
        reason = "" if knobs.runtime.interpret else "on the CPU Triton needs its interpreter: set TRITON_INTERPRET=1"
    elif device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        reason = "the kernels need compute capability 8.0 (Ampere) or later"
    else:
        reason = _compiler_trouble(device.type)
    return Availability(not reason, reason)


def _compiler_trouble(device_kind: str) -> str:
    from triton.runtime import driver

    try:
        target = driver.active.get_current_target()
    except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as error:
        return f"Triton found no driver or no C compiler: {error}"
    if target.backend in {"cuda": ("cuda", "hip"), "xpu": ("xpu",)}.get(device_kind, ()):
        return ""
    return f"this build of Triton compiles for {target.backend}, not for {device_kind}"


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """Writes key and value [T, kv_heads, head_dim] to slots [T] int64; tokens with a slot below 0 are skipped.

    Raises ValueError if shapes, dtypes or layouts do not match.
    """
    tokens, kv_heads, head_dim = key.shape
    check_caches(key_cache, value_cache, key.dtype, head_dim)
    if value.shape != key.shape or value.dtype != key.dtype or key_cache.shape[2] != kv_heads:
        raise ValueError(
            f"key {tuple(key.shape)} {key.dtype} and value {tuple(value.shape)} {value.dtype} must match each other "
            f"and the caches' {key_cache.shape[2]} KV heads"
        )
    check_rows(key=key, value=value)
    check_indices(torch.int64, slots=slots)
    if tokens == 0:
        return
    from infermesh_worker_xpu.attention import triton_kernels as kernels

    dim_padded = tiling.power_of_two_above(head_dim)
    heads_tile = min(tiling.power_of_two_above(kv_heads), max(1, 2048 // dim_padded))
    kernels.write_kv_kernel[(tokens, -(-kv_heads // heads_tile))](
        key,
        value,
        key_cache,
        value_cache,
        slots,
        *key.stride()[:2],
        *value.stride()[:2],
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        DIM_PADDED=dim_padded,
        HEADS_TILE=heads_tile,
    )


def decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    scale: float,
    sliding_window: int | None,
    softcap: float | None,
    out: Tensor,
    *,
    splits: int | None = None,
) -> Tensor:
    """Attention of one new token of each sequence, query [S, heads, head_dim], over its context including the token.

    block_tables [S, max_blocks] and context_lens [S] are int32; table entries beyond a context or before its window are
    not read. A row with context 0 gets zeros. `splits` (a power of two) is the number of chunks a context is cut into.
    By default it depends on S, max_blocks and the device, and so may a row's last bits; with a given number they depend
    on the row alone. Raises ValueError if shapes, dtypes or layouts do not match.
    """
    sizes = Geometry.of(query, key_cache, value_cache, out)
    check_indices(torch.int32, block_tables=block_tables, context_lens=context_lens)
    sequences = query.shape[0]
    if sequences == 0:
        return out
    from infermesh_worker_xpu.attention import triton_kernels as kernels

    tiles = tiling.decode_tiles(query.device.type, sizes.head_dim, query.element_size(), sizes.group)
    programs = sizes.kv_heads * -(-sizes.group // tiles.rows)
    if splits is None:
        max_context = block_tables.shape[1] * sizes.block_size
        splits = tiling.decode_splits(sequences * programs, max_context, _processors(query.device))
    rows = (sequences, sizes.heads, splits) if splits > 1 else (0, 0, 0)
    partials = query.new_empty(*rows, sizes.head_dim, dtype=torch.float32)
    lses = query.new_empty(rows, dtype=torch.float32)
    tensors = (query, key_cache, value_cache, block_tables, context_lens, out, partials, lses)
    strides = (block_tables.stride(0), *query.stride()[:2], *out.stride()[:2])
    kernels.decode_kernel[(programs, splits, sequences)](
        *tensors,
        scale,
        softcap or 1.0,
        sliding_window or 0,
        *strides,
        **_constants(sizes, tiles, sliding_window, softcap),
        STEP=tiling.CHUNK_TOKENS,
        SPLIT=splits > 1,
    )
    if splits > 1:
        _combine(partials, lses, context_lens, out, sliding_window, sizes)
    return out


def _combine(
    partials: Tensor, lses: Tensor, context_lens: Tensor, out: Tensor, window: int | None, sizes: Geometry
) -> None:
    from infermesh_worker_xpu.attention import triton_kernels as kernels

    sequences, heads, splits = lses.shape
    kernels.combine_kernel[(heads, sequences)](
        partials,
        lses,
        context_lens,
        out,
        window or 0,
        *out.stride()[:2],
        HEAD_DIM=sizes.head_dim,
        DIM_PADDED=sizes.dim_padded,
        SPLITS=splits,
        SLAB=min(splits, tiling.COMBINE_SLAB),
        STEP=tiling.CHUNK_TOKENS,
        WINDOWED=window is not None,
        num_warps=tiling.COMBINE_WARPS,
    )


def prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    begins: Tensor,
    context_lens: Tensor,
    max_new: int,
    scale: float,
    sliding_window: int | None,
    softcap: float | None,
    out: Tensor,
) -> Tensor:
    """Causal attention of runs of new tokens, query [T, heads, head_dim], over their contexts including themselves.

    Sequence i's new tokens are rows begins[i] to begins[i + 1], and the last of its context_lens[i] (past + new)
    positions; runs may be empty. begins [S + 1], context_lens [S] and block_tables [S, max_blocks] are int32. Rows of
    out before begins[0] and from begins[S] on are not written. max_new, an upper bound of a run's length, determines
    the tiles: with one max_new a row's bits do not depend on how its prompt was split or batched. Raises ValueError if
    shapes, dtypes or layouts do not match.
    """
    sizes = Geometry.of(query, key_cache, value_cache, out)
    check_indices(torch.int32, block_tables=block_tables, begins=begins, context_lens=context_lens)
    tokens, sequences = query.shape[0], context_lens.shape[0]
    if tokens == 0 or sequences == 0:
        return out
    from infermesh_worker_xpu.attention import triton_prefill as kernels

    tiles = tiling.prefill_tiles(query.device.type, sizes.head_dim, query.element_size(), max_new * sizes.group)
    programs = (tokens * sizes.group // tiles.rows + sequences) * sizes.kv_heads
    tensors = (query, key_cache, value_cache, block_tables, begins, context_lens, out)
    strides = (block_tables.stride(0), *query.stride()[:2], *out.stride()[:2])
    kernels.prefill_kernel[(programs,)](
        *tensors,
        scale,
        softcap or 1.0,
        sliding_window or 0,
        sequences,
        *strides,
        **_constants(sizes, tiles, sliding_window, softcap),
    )
    return out


def _constants(
    sizes: Geometry, tiles: tiling.TileSizes, sliding_window: int | None, softcap: float | None
) -> dict[str, int | bool]:
    """Compile-time arguments of the decode and prefill kernels."""
    return {
        "KV_HEADS": sizes.kv_heads,
        "GROUP": sizes.group,
        "HEAD_DIM": sizes.head_dim,
        "DIM_PADDED": sizes.dim_padded,
        "BLOCK_SIZE": sizes.block_size,
        "ROWS": tiles.rows,
        "TOKENS": tiles.tokens,
        "WINDOWED": sliding_window is not None,
        "SOFTCAP": softcap is not None,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }


@functools.cache
def _processors(device: torch.device) -> int:
    """Number of multiprocessors (CUDA) or Xe cores (XPU); 1 on the CPU, under the interpreter."""
    if device.type == "cpu":
        return 1
    properties = torch.get_device_module(device).get_device_properties(device)
    return int(properties.gpu_subslice_count if device.type == "xpu" else properties.multi_processor_count)
