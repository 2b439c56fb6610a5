"""Owns how large the attention kernels' tiles are, for each device kind, head size and dtype. Knows no Triton.

A table and not an autotuner: tuning at run time would stall a request and break graph capture. Starting values are
those that flash attention in Triton commonly runs with; none is measured here yet. Enter measured ones with
benchmarks/triton_attention.py, the device and date beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MAX_SPLITS = 64
"""Of one sequence's context in decode; a power of two."""
PROGRAMS_PER_PROCESSOR = 2
"""Decode programs that keep one multiprocessor's (CUDA) or Xe core's (XPU) memory pipes busy."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """One kernel's tile: `rows` of queries (prefill only) against `tokens` of context."""

    rows: int
    tokens: int
    warps: int
    stages: int


# (largest head_dim after padding, bytes an element): tiles
DECODE_TILES: Mapping[tuple[int, int], Tiles] = {
    (64, 2): Tiles(16, 64, 4, 3),
    (128, 2): Tiles(16, 64, 4, 3),
    (256, 2): Tiles(16, 32, 4, 3),
    (64, 4): Tiles(16, 32, 4, 2),
    (128, 4): Tiles(16, 32, 4, 2),
    (256, 4): Tiles(16, 16, 4, 2),
}
PREFILL_TILES: Mapping[tuple[int, int], Tiles] = {
    (64, 2): Tiles(128, 64, 4, 3),
    (128, 2): Tiles(128, 64, 8, 3),
    (256, 2): Tiles(64, 32, 8, 2),
    (64, 4): Tiles(32, 32, 4, 2),
    (128, 4): Tiles(32, 32, 4, 2),
    (256, 4): Tiles(16, 16, 4, 2),
}
SMALL_PREFILL_ROWS = 32
"""Rows (new tokens × heads a KV head) up to which a prefill takes tiles of so many rows."""
MAX_DECODE_ROWS = 64
"""Heads of one KV head that one decode program handles; more take several programs."""
CHUNK_TOKENS = 128
"""A decode chunk is a multiple of this; a power of two, and so a multiple of any tile's tokens."""
COMBINE_SLAB = 16
"""Chunks that the combining step adds at once."""
COMBINE_WARPS = 4


def _of(table: Mapping[tuple[int, int], Tiles], device_kind: str, head_dim: int, element_bytes: int) -> Tiles:
    padded = max(64, power_of_two_above(head_dim))
    tiles = table[padded, element_bytes]
    if device_kind == "xpu":  # a warp has 16 lanes there, not 32
        return Tiles(tiles.rows, tiles.tokens, 2 * tiles.warps, tiles.stages)
    return tiles


def decode_tiles(device_kind: str, head_dim: int, element_bytes: int, group: int) -> Tiles:
    """Tiles of decode where `group` query heads share a KV head; rows are ≥ 16, the least that a dot takes."""
    tiles = _of(DECODE_TILES, device_kind, head_dim, element_bytes)
    rows = min(MAX_DECODE_ROWS, max(16, power_of_two_above(group)))
    return Tiles(rows, tiles.tokens, tiles.warps, tiles.stages)


def prefill_tiles(device_kind: str, head_dim: int, element_bytes: int, max_rows: int) -> Tiles:
    """Tiles of prefill whose longest run has max_rows = max_new × heads a KV head."""
    tiles = _of(PREFILL_TILES, device_kind, head_dim, element_bytes)
    if max_rows > SMALL_PREFILL_ROWS:
        return tiles
    return Tiles(min(tiles.rows, SMALL_PREFILL_ROWS), tiles.tokens, tiles.warps, tiles.stages)


def decode_splits(programs: int, max_context_tokens: int, processors: int) -> int:
    """Chunks (a power of two) that one context is cut into, from shapes alone.

    `programs` run without splitting, on a device of `processors`; enough splits are made to fill it, none shorter than
    CHUNK_TOKENS at the longest context.
    """
    wanted = -(-PROGRAMS_PER_PROCESSOR * processors // programs)
    useful = -(-max_context_tokens // CHUNK_TOKENS)
    return power_of_two_above(max(1, min(MAX_SPLITS, wanted, useful)))


def power_of_two_above(value: int) -> int:
    """The least power of two that is ≥ value ≥ 1."""
    return 1 << (value - 1).bit_length()
