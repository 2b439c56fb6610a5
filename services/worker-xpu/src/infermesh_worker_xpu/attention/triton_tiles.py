"""Tile sizes of the attention kernels, by kind of device, head size and dtype.

We use a table and no autotuner, because tuning at run time would stall a request and break graph capture. The values
were chosen by what the compiler reports; none has been measured yet. When you measure some with triton_attention.py of
the benchmarks, note the device and the date beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

MAX_SPLITS = 64
"""Most chunks that decode cuts one context into; a power of two."""
PROGRAMS_PER_PROCESSOR = 2
"""Decode programs that it takes to keep the memory of one multiprocessor (CUDA) or Xe core (XPU) busy."""


@dataclass(frozen=True, slots=True)
class TileSizes:
    """Tile of a kernel: `rows` of queries by `tokens` of context. In DECODE_TILES, `rows` is an upper limit.

    `stages` are loads in flight. In decode, keys wait for their block table entry, which takes half of the stages: 5
    stages keep two tiles of keys and values in shared memory, 3 or 4 only one.
    """

    rows: int
    tokens: int
    warps: int
    stages: int


# By (padded head_dim, bytes per element). Compiled by Triton 3.7.1, these tiles spill at most 16 bytes per thread on
# sm_90 and 88 on sm_80, and use less than the 99 KiB of shared memory of the smallest such device. A test checks this.
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
"""A prefill with at most this many rows (new tokens × heads a KV head) takes tiles of this size and half the warps."""
CHUNK_TOKENS = 128
"""Decode chunks are multiples of this. It is a power of two, and so a multiple of any tile's tokens."""
COMBINE_SLAB = 16
"""Chunks that the combining kernel adds at once."""
COMBINE_WARPS = 4


def _of(table: Mapping[tuple[int, int], TileSizes], device_kind: str, head_dim: int, element_bytes: int) -> TileSizes:
    padded = max(64, power_of_two_above(head_dim))
    tiles = table[padded, element_bytes]
    if device_kind == "xpu":  # warps have 16 lanes on XPU, 32 on CUDA
        return replace(tiles, warps=2 * tiles.warps)
    return tiles


def decode_tiles(device_kind: str, head_dim: int, element_bytes: int, group: int) -> TileSizes:
    """Tile sizes of decode, with `group` query heads a KV head. Rows are at least 16, the minimum of tl.dot."""
    tiles = _of(DECODE_TILES, device_kind, head_dim, element_bytes)
    return replace(tiles, rows=min(tiles.rows, max(16, power_of_two_above(group))))


def prefill_tiles(device_kind: str, head_dim: int, element_bytes: int, max_rows: int) -> TileSizes:
    """Tile sizes of prefill, with at most `max_rows` (max_new × query heads a KV head) rows in a run."""
    tiles = _of(PREFILL_TILES, device_kind, head_dim, element_bytes)
    if max_rows > SMALL_PREFILL_ROWS or tiles.rows <= SMALL_PREFILL_ROWS:
        return tiles
    return replace(tiles, rows=SMALL_PREFILL_ROWS, warps=tiles.warps // 2)


def decode_splits(programs: int, max_context_tokens: int, processors: int) -> int:
    """Number of chunks (a power of two) that decode cuts each context into; depends on shapes only.

    Without splitting, `programs` would run on a device with `processors`. Splits until the device is full, but keeps at
    least CHUNK_TOKENS in each chunk of the longest context.
    """
    wanted = -(-PROGRAMS_PER_PROCESSOR * processors // programs)
    useful = -(-max_context_tokens // CHUNK_TOKENS)
    return power_of_two_above(max(1, min(MAX_SPLITS, wanted, useful)))


def power_of_two_above(value: int) -> int:
    """The smallest power of two ≥ value; value ≥ 1."""
    return 1 << (value - 1).bit_length()
