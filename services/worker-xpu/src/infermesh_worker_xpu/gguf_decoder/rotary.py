"""Rotates queries and keys by their positions, each layer with the frequencies that its file gives."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infermesh_runtime.gguf_account.rope import frequencies
from infermesh_runtime.gguf_account.spec import RopeSpec
from infermesh_worker.models.gguf_file import GgufFile

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines [1, 1, T, dimensions]; both halves of the last axis are equal."""


class Rotary(nn.Module):
    """Computes the rotations of a step, one for each way in which layers rotate."""

    def __init__(self, ropes: Sequence[RopeSpec], file: GgufFile, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._magnitudes: list[float] = []
        for index, rope in enumerate(ropes):
            factors = file.vector(rope.factors).tolist() if rope.factors else None
            angles, magnitude = frequencies(rope, factors)
            both = torch.tensor([*angles, *angles], dtype=torch.float32, device=device)
            self.register_buffer(f"frequencies_{index}", both, persistent=False)
            self._magnitudes.append(magnitude)

    def forward(self, positions: Tensor) -> list[Rotation]:
        """positions int64 [1, T]."""
        found = []
        for index, magnitude in enumerate(self._magnitudes):
            angles = positions[:, None, :, None].float() * self.get_buffer(f"frequencies_{index}")
            cosine, sine = ((part * magnitude).to(self._dtype) for part in (angles.cos(), angles.sin()))
            found.append((cosine, sine))
        return found


def rotate(heads: Tensor, by: Rotation) -> Tensor:
    """Rotates [1, heads, T, head size]; pairs are one number from each half of the first `dimensions`."""
    cosine, sine = by
    dimensions = cosine.shape[-1]
    if dimensions == heads.shape[-1]:
        return _turned(heads, cosine, sine)
    return torch.cat((_turned(heads[..., :dimensions], cosine, sine), heads[..., dimensions:]), -1)


def paired_by_halves(heads: int, head_size: int, rope: RopeSpec | None) -> NDArray[np.int64] | None:
    """The order of rows that turns pairs of neighbours, as llama.cpp's converter stores them, into pairs of halves.

    None: the rows have that order already.
    """
    if rope is None or rope.pairing == "halves":
        return None
    one = np.arange(head_size)
    one[: rope.dimensions] = np.concatenate([np.arange(0, rope.dimensions, 2), np.arange(1, rope.dimensions, 2)])
    return (np.arange(heads)[:, None] * head_size + one).reshape(-1)


def _turned(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = heads.chunk(2, -1)
    return heads * cosine + torch.cat((-second, first), -1) * sine
