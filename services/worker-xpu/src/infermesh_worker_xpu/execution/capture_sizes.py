"""Chooses the sizes of steps to capture: few enough to load quickly, and close enough that padding costs little."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from infermesh_worker_xpu.options import TorchOptions

MAX_MIXED_TOKENS = 4096
"""Largest mixed step that is captured: beyond, a step computes for longer than its launches take."""


@dataclass(frozen=True, slots=True)
class CaptureSizes:
    """Sizes of steps to capture."""

    sequences: Sequence[int]
    """Of steps that only decode."""
    tokens: Sequence[int]
    """Of all other steps."""

    @classmethod
    def of(cls, options: TorchOptions) -> Self:
        return cls(bucket_sizes(options.max_sequences), token_sizes(options.max_batched_tokens))


def token_sizes(max_tokens: int) -> list[int]:
    """Tokens of mixed steps to capture: 64, 128, 192, 256, then four for each doubling, up to max_tokens or
    MAX_MIXED_TOKENS itself.
    """
    most = min(max_tokens, MAX_MIXED_TOKENS)
    sizes = [64]
    while sizes[-1] < most:
        doubling = 1 << (sizes[-1].bit_length() - 1)
        sizes.append(sizes[-1] + max(64, doubling // 4))
    return [*(size for size in sizes if size < most), most]


def bucket_sizes(max_sequences: int) -> list[int]:
    """Batch sizes to capture: 1, 2, 4, multiples of 8 up to 256, multiples of 16 beyond, and max_sequences itself."""
    sizes = {1, 2, 4, *range(8, 257, 8), *range(272, max_sequences + 1, 16), max_sequences}
    return sorted(size for size in sizes if size <= max_sequences)
