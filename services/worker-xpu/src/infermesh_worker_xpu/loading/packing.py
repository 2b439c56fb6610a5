"""Owns linear layers whose weights lie in memory as the processor's matrix kernels read them. CPU only."""

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer by oneDNN with its weight packed once: up to four times as fast as F.linear with few rows.

    A row's result does not depend on how many rows there are, as long as there are two.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Packs the weight of `linear`, which is not changed. Raises RuntimeError where oneDNN cannot."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._itemsize = linear.weight.dtype.itemsize
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    @property
    def nbytes(self) -> int:
        """Memory of the weight and the bias, without the packing's padding."""
        bias = 0 if self._bias is None else self._bias.nbytes
        return self.in_features * self.out_features * self._itemsize + bias

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, "none", [], "")
        return packed


def pack(model: nn.Module) -> int:
    """Replaces the model's linear layers by packed ones, as far as this processor has kernels; returns how many."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch's
        return 0
    packed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and _can_pack(child):
                setattr(parent, name, PackedLinear(child))
                packed += 1
    return packed


def _can_pack(linear: nn.Linear) -> bool:
    if type(linear.weight) is not nn.Parameter:  # torchao's quantised tensors have kernels of their own
        return False
    match linear.weight.dtype:
        case torch.float32:
            return True
        case torch.bfloat16:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        case torch.float16:
            return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return False
