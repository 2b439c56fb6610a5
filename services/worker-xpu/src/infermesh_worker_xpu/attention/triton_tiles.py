"""Owns how large the attention kernels' tiles are, for each device kind, head size and dtype. Knows no Triton.

A table and not an autotuner: tuning at run time would stall a request and break graph capture. The values are chosen
by what the compiler reports, not by time: none is measured yet. Enter measured ones with
benchmarks/triton_attention.py, the device and date beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

MAX_SPLITS = 64
"""Of one sequence's context in decode; a power of two."""
PROGRAMS_PER_PROCESSOR = 2
"""Decode programs that keep one multiprocessor's (CUDA) or Xe core's (XPU) memory pipes busy."""


@dataclass(frozen=True, slots=True)
class TileSizes:
    """One kernel's tile, `rows` of queries against `tokens` of context; in DECODE_TILES rows is the most there may be.

    Stages are loads in flight. Decode's keys wait for the table's entry, which takes half of them: 5 keep two tiles of
    keys and values in shared memory, 3 or 4 only one.
    """

    rows: int
    tokens: int
    warps: int
    stages: int


# (head_dim after padding, bytes an element): tiles. Compiled by Triton 3.7.1 they spill at most 16 bytes a thread on
# sm_90 and 88 on sm_80, and take less than the 99 KiB of shared memory that the smallest such device has: a test checks
# it.
DECODE_TILES: Mapping[tuple[int, int], TileSizes] = {
    (64, 2): TileSizes(64, 64, 4, 5),
    (128, 2): TileSizes(32, 64, 4, 5),
    (256, 2): TileSizes(32, 32, 4, 5),
    (64, 4): TileSizes(16, 32, 4, 5),
    (128, 4): TileSizes(16, 16, 4, 5),
    (256, 4): TileSizes(16, 16, 4, 4),
}
PREFILL_TILES: Mapping[tuple[int, int], TileSizes] = {
    (64, 2): TileSizes(128, 64, 8, 3),
    (128, 2): TileSizes(128, 64, 8, 3),
    (256, 2): TileSizes(64, 32, 8, 3),
    (64, 4): TileSizes(32, 32, 4, 3),
    (128, 4): TileSizes(32, 16, 8, 3),
    (256, 4): TileSizes(16, 16, 4, 3),
}
SMALL_PREFILL_ROWS = 32
"""Rows (new tokens × heads a KV head) up to which a prefill takes tiles of so many rows and half the warps."""
CHUNK_TOKENS = 128
"""A decode chunk is a multiple of this; a power of two, and so a multiple of any tile's tokens."""
COMBINE_SLAB = 16
"""Chunks that the combining step adds at once."""
COMBINE_WARPS = 4


def _of(table: Mapping[tuple[int, int], TileSizes], device_kind: str, head_dim: int, element_bytes: int) -> TileSizes:
    padded = max(64, power_of_two_above(head_dim))
    tiles = table[padded, element_bytes]
    if device_kind == "xpu":  # a warp has 16 lanes there, not 32
        return replace(tiles, warps=2 * tiles.warps)
    return tiles


def decode_tiles(device_kind: str, head_dim: int, element_bytes: int, group: int) -> TileSizes:
    """Tile sizes of decode where `group` query heads share a KV head; rows are ≥ 16, the least that a dot takes."""
    tiles = _of(DECODE_TILES, device_kind, head_dim, element_bytes)
    return replace(tiles, rows=min(tiles.rows, max(16, power_of_two_above(group))))


def prefill_tiles(device_kind: str, head_dim: int, element_bytes: int, max_rows: int) -> TileSizes:
    """Tile sizes of prefill whose longest run has max_rows = max_new × heads a KV head."""
    tiles = _of(PREFILL_TILES, device_kind, head_dim, element_bytes)
    if max_rows > SMALL_PREFILL_ROWS or tiles.rows <= SMALL_PREFILL_ROWS:
        return tiles
    return replace(tiles, rows=SMALL_PREFILL_ROWS, warps=tiles.warps // 2)


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
