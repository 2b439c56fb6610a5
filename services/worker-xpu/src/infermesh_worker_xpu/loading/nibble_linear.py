"""Linear layers whose weight also lies in memory as 4-bit numbers, for products of few rows. CPU only.

A product of few rows takes as long as reading the weight. Four bits are read faster than sixteen; for more rows, the
kernels of packed weights compute faster.
"""

import torch
from torch import Tensor, nn

from infermesh_worker_xpu.nibbles import GROUP, Nibbles, expanded

MOST_ROWS = 6
"""Products of more rows run on the packed weight."""
_ROWS_ALIGNED = 16
"""torch's kernel wants a multiple of so many rows of the weight."""
_PART_ROWS = 1024
"""Rows packed at once, a multiple of what the kernel keeps together: their numbers take 32 bits meanwhile."""


def has_kernel(dtype: torch.dtype) -> bool:
    """Whether torch multiplies 4-bit numbers fast on this processor: in fp32, packed weights are faster."""
    return dtype == torch.bfloat16 and torch.backends.cpu.get_cpu_capability() == "AVX512"


def can_run(nibbles: Nibbles, dtype: torch.dtype) -> bool:
    """Whether this processor has a kernel for weights of this shape."""
    return has_kernel(dtype) and nibbles.shape[0] % _ROWS_ALIGNED == 0


class NibbleLinear(nn.Module):
    """A linear layer that multiplies few rows with 4-bit numbers, and more rows with another layer of equal weights."""

    def __init__(self, nibbles: Nibbles, bias: Tensor | None, many: nn.Module, dtype: torch.dtype) -> None:
        """Packs a copy of the numbers. `many` multiplies more than MOST_ROWS rows, in precision `dtype`."""
        super().__init__()
        self.many = many
        self.out_features, self.in_features = nibbles.shape
        self._bias = bias
        parts = [
            torch.ops.aten._convert_weight_to_int4pack_for_cpu(expanded(part).int(), 1)
            for part in torch.split(nibbles.pairs, _PART_ROWS)
        ]
        self._numbers = torch.cat(parts) if len(parts) > 1 else parts[0]
        self._scales = torch.stack((nibbles.scales.T, nibbles.bases.T), -1).to(dtype).contiguous()

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers, scales and bases, without `many`."""
        return self._numbers.nbytes + self._scales.nbytes

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        rows = inputs.reshape(-1, self.in_features)
        if len(rows) > MOST_ROWS:
            return self.many(inputs)  # type: ignore[no-any-return] # torch's modules are untyped
        rows = rows.contiguous()  # a view, if the inputs are a slice of columns, which the kernel refuses
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self._numbers, GROUP, self._scales)
        if self._bias is not None:
            product += self._bias
        return product.view(*inputs.shape[:-1], self.out_features)
