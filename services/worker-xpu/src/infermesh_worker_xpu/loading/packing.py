"""Linear layers whose weights are stored in the layout that the CPU's matrix kernels read. CPU only."""

import torch
from torch import Tensor, nn

from infermesh_worker_xpu import nibbles
from infermesh_worker_xpu.loading import nibble_linear
from infermesh_worker_xpu.loading.nibble_linear import NibbleLinear


class PackedLinear(nn.Module):
    """A linear layer that runs on oneDNN with a weight packed once. Up to four times as fast as F.linear for few rows.

    From two rows on, a row's result does not depend on the number of rows.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Packs a copy of the weight of `linear`. Raises RuntimeError if oneDNN cannot."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._itemsize = linear.weight.dtype.itemsize
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    @property
    def nbytes(self) -> int:
        """Bytes of the weight and the bias, without the padding that packing adds."""
        bias = 0 if self._bias is None else self._bias.nbytes
        return self.in_features * self.out_features * self._itemsize + bias

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, "none", [], "")
        return packed


def pack(model: nn.Module, *, few_rows: bool = True) -> int:
    """Packs the model's linear layers, in place, for which this CPU has kernels. Returns how many.

    `few_rows`: whether few rows may be multiplied with 4-bit numbers, which rounds otherwise than for more rows.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch's
        return 0
    packed = 0
    parents = [module for module in model.modules() if type(module) is not nn.Linear]  # no layer outlives its packing
    for parent in parents:
        for name in [name for name, _ in parent.named_children()]:
            child = parent.get_submodule(name)
            if type(child) is nn.Linear and _can_pack(child):
                setattr(parent, name, _packed(child, few_rows=few_rows))
                packed += 1
    return packed


def _packed(linear: nn.Linear, *, few_rows: bool) -> nn.Module:
    many, found = PackedLinear(linear), nibbles.attached(linear)
    if not few_rows or found is None or not nibble_linear.can_run(found, linear.weight.dtype):
        return many
    nibbles.detach(linear)
    return NibbleLinear(found, linear.bias, many, linear.weight.dtype)


def _can_pack(linear: nn.Linear) -> bool:
    if type(linear.weight) is not nn.Parameter:  # torchao's quantised tensors have their own kernels
        return False
    match linear.weight.dtype:
        case torch.float32:
            return True
        case torch.bfloat16:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        case torch.float16:
            return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return False
