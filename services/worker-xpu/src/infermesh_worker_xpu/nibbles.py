"""Weights as 4-bit numbers, and the linear layers that they belong to until those are packed.

Each group of 32 weights of a row is (number - 8) · scale + base.
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

    numbers: Tensor
    """uint8 from 0 to 15, [rows, columns]."""
    scales: Tensor
    """float32 [rows, columns / GROUP]."""
    bases: Tensor
    """float32 [rows, columns / GROUP]: the weight whose number is 8."""

    def values(self) -> Tensor:
        """The weight in float32."""
        grouped = self.numbers.view(len(self.numbers), -1, GROUP).float() - 8
        return (grouped * self.scales[..., None] + self.bases[..., None]).flatten(1)

    @classmethod
    def nearest(cls, weight: Tensor) -> Self:
        """The 4-bit weight nearest to `weight` [rows, columns]; columns are a multiple of GROUP."""
        grouped = weight.float().reshape(len(weight), -1, GROUP)
        lowest, highest = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
        scales = ((highest - lowest) / 15).clamp_min(torch.finfo(torch.float32).tiny)
        numbers = ((grouped - lowest) / scales).round_().clamp_(0, 15).to(torch.uint8)
        return cls(numbers.flatten(1), scales[..., 0], (lowest + 8 * scales)[..., 0])


def attach(layer: nn.Linear, nibbles: Nibbles | None) -> None:
    """Notes that these are the numbers of the layer's weight."""
    setattr(layer, _SLOT, nibbles)


def attached(layer: nn.Linear) -> Nibbles | None:
    """What `attach` noted, unless the layer's weight has another shape since then."""
    found: Nibbles | None = getattr(layer, _SLOT, None)
    return found if found is not None and found.numbers.shape == layer.weight.shape else None


def detach(layer: nn.Linear) -> None:
    """Frees what `attach` noted."""
    setattr(layer, _SLOT, None)


def joined(layers: Sequence[nn.Linear]) -> Nibbles | None:
    """The numbers of the weights on top of one another; None unless all have some."""
    found = [nibbles for layer in layers if (nibbles := attached(layer)) is not None]
    if len(found) < len(layers):
        return None
    numbers, scales, bases = (
        torch.cat([getattr(nibbles, name) for nibbles in found]) for name in ("numbers", "scales", "bases")
    )
    return Nibbles(numbers, scales, bases)
