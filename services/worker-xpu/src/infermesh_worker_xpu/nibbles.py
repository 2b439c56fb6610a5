"""Weights as 4-bit numbers, and the linear layers that they belong to until those are packed.

Each group of 32 weights of a row is (number - 8) · scale + base. Models are loaded with all of them in memory, so they
are kept small: two numbers a byte, 5 bits a weight together with scales and bases in bf16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

GROUP = 32
"""Weights that share a scale and a base."""
_SLOT = "infermesh_nibbles"
"""Name of a linear layer's attribute that holds its Nibbles."""


@dataclass(frozen=True, slots=True)
class Nibbles:
    """A weight [rows, columns]."""

    pairs: Tensor
    """uint8 [rows, columns / 2]: the number of an even column in the low half, the next column's in the high half."""
    scales: Tensor
    """[rows, columns / GROUP] in the model's precision."""
    bases: Tensor
    """[rows, columns / GROUP] in the model's precision: the weight whose number is 8."""

    @classmethod
    def of(cls, numbers: Tensor, scales: Tensor, bases: Tensor, dtype: torch.dtype) -> Self:
        """Of numbers from 0 to 15, uint8 [rows, columns], for a model in this precision."""
        return cls(numbers[:, ::2] | (numbers[:, 1::2] << 4), scales.to(dtype), bases.to(dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight."""
        return self.pairs.shape[0], 2 * self.pairs.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers, scales and bases."""
        return self.pairs.nbytes + self.scales.nbytes + self.bases.nbytes

    def values(self) -> Tensor:
        """The weight in float32."""
        grouped = expanded(self.pairs).view(len(self.pairs), -1, GROUP).float() - 8
        return (grouped * self.scales[..., None] + self.bases[..., None]).flatten(1)

    @classmethod
    def nearest(cls, weight: Tensor) -> Self:
        """The 4-bit weight nearest to `weight` [rows, columns], in its precision; columns are a multiple of GROUP."""
        grouped = weight.float().reshape(len(weight), -1, GROUP)
        lowest, highest = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
        scales = ((highest - lowest) / 15).clamp_min(torch.finfo(weight.dtype).tiny).to(weight.dtype)
        bases = (lowest + 8 * scales.float()).to(weight.dtype)
        numbers = ((grouped - bases) / scales + 8).round_().clamp_(0, 15).to(torch.uint8)
        return cls.of(numbers.flatten(1), scales[..., 0], bases[..., 0], weight.dtype)


def expanded(pairs: Tensor) -> Tensor:
    """The numbers of some rows of `Nibbles.pairs`, uint8 [rows, columns]."""
    return torch.stack((pairs & 15, pairs >> 4), -1).flatten(1)


def stacked(parts: Sequence[Nibbles]) -> Nibbles:
    """The numbers of weights on top of one another."""
    pairs, scales, bases = (torch.cat([getattr(part, name) for part in parts]) for name in ("pairs", "scales", "bases"))
    return Nibbles(pairs, scales, bases)


def attach(layer: nn.Linear, nibbles: Nibbles | None) -> None:
    """Notes that these are the numbers of the layer's weight."""
    setattr(layer, _SLOT, nibbles)


def attached(layer: nn.Linear) -> Nibbles | None:
    """What `attach` noted, unless the layer's weight has another shape since then."""
    found: Nibbles | None = getattr(layer, _SLOT, None)
    return found if found is not None and found.shape == layer.weight.shape else None


def detach(layer: nn.Linear) -> None:
    """Frees what `attach` noted."""
    setattr(layer, _SLOT, None)


def joined(layers: Sequence[nn.Linear]) -> Nibbles | None:
    """The numbers of the weights on top of one another; None unless all have some."""
    found = [nibbles for layer in layers if (nibbles := attached(layer)) is not None]
    return stacked(found) if len(found) == len(layers) else None
