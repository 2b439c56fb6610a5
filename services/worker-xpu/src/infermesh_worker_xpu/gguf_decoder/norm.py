"""Root-mean-square norms, with weights in float32."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader


class Norm(nn.Module):
    """Divides the last axis by its root mean square, and multiplies it by a weight."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon

    def forward(self, values: Tensor) -> Tensor:
        """Any shape, to the same shape and precision; computed in float32."""
        wide = values.float()
        inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (wide * inverse * self.weight).to(values.dtype)


def read_norm(
    weights: WeightReader, name: str | None, epsilon: float, order: NDArray[np.int64] | None = None
) -> nn.Module:
    """The norm of that name; without a name, a module that changes nothing."""
    return nn.Identity() if name is None else Norm(weights.vector(name, order), epsilon)
