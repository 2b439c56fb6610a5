"""Chooses a token from ranked weights and a uniform number, in torch, without waiting for the device.

Maths, names and shapes are those of infermesh_engine.sampling.inversion, which explains them. One thing differs: sums
are added in the device's order (and in float32 if it has nothing wider), so a draw that falls within rounding of a
boundary may land on its other side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True)
class DrawNumbers:
    """`DrawnRows` of S rows on a device, each [S]. Floats have the dtype that sums are computed in."""

    inverse_temperatures: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    uniforms: Tensor

    def of(self, rows: Tensor) -> "DrawNumbers":
        """The numbers of some rows."""
        return DrawNumbers(
            self.inverse_temperatures[rows], self.top_k[rows], self.top_p[rows], self.min_p[rows], self.uniforms[rows]
        )


def relative_weights(logits: Tensor, largest: Tensor, numbers: DrawNumbers) -> Tensor:
    """Probabilities [S, K] relative to the most probable token, whose logit is `largest` [S, 1]."""
    exact = logits.to(numbers.uniforms.dtype) - largest.to(numbers.uniforms.dtype)
    return torch.exp(exact * numbers.inverse_temperatures[:, None])


def total_weights(logits: Tensor, largest: Tensor, numbers: DrawNumbers) -> Tensor:
    """[S], the sum of all weights of logits [S, V]. Each weight is in float32, which is as precise as the logits."""
    scaled = (logits - largest) * numbers.inverse_temperatures[:, None].to(torch.float32)
    return scaled.exp_().sum(1, dtype=numbers.uniforms.dtype)


def invert(weights: Tensor, totals: Tensor, numbers: DrawNumbers, *, complete: bool) -> tuple[Tensor, Tensor]:
    """The column chosen in each row, and whether that choice is certain; both [S]. In complete rows it always is."""
    width = weights.shape[1]
    sums = weights.cumsum(1)
    kept, ambiguous = _kept(weights, sums, totals, numbers)
    bounded = kept <= width
    mass = torch.where(bounded, _at(sums, kept), totals)
    target = numbers.uniforms * mass
    if complete:
        last = sums[:, -1]
        target = torch.where(target >= last, numbers.uniforms * last, target)
    index = torch.minimum((sums <= target[:, None]).sum(1), kept.clamp(max=width) - 1)
    if complete:
        return index, torch.ones_like(bounded)
    unfiltered = (numbers.top_k == 0) & (numbers.top_p >= 1) & (numbers.min_p <= 0)
    return index, ~ambiguous & (bounded | (unfiltered & (target < sums[:, -1])))


def _kept(weights: Tensor, sums: Tensor, totals: Tensor, numbers: DrawNumbers) -> tuple[Tensor, Tensor]:
    """How many tokens the filters keep, ≥ 1, and > K if K weights cannot tell; and which rows are ambiguous."""
    width = weights.shape[1]
    limited = numbers.top_k > 0
    by_top_k = torch.where(limited, numbers.top_k, _UNLIMITED)
    mass = torch.where(limited, _at(sums, by_top_k), totals)
    least = torch.where(numbers.top_p < 1, numbers.top_p * mass, float("inf"))
    by_top_p = (sums < least[:, None]).sum(1) + 1
    by_min_p = (weights >= numbers.min_p[:, None]).sum(1)
    by_min_p = torch.where(by_min_p == width, _UNLIMITED, by_min_p)
    by_top_p = torch.where(by_top_p > width, _UNLIMITED, by_top_p)
    kept = torch.minimum(torch.minimum(by_top_k, by_top_p), by_min_p).clamp(min=1)
    return kept, (by_top_k > width) & limited & (numbers.top_p < 1)


def _at(sums: Tensor, counts: Tensor) -> Tensor:
    """[S], the sum of each row's first `counts` tokens, or of all K if there are fewer."""
    columns = counts.clamp(max=sums.shape[1]) - 1
    return sums.gather(1, columns[:, None])[:, 0]
