"""Reads a GGUF file's tensors into torch, dequantised a few rows at a time, straight to their device and precision."""

from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.tensors import ROPE_TENSORS
from infermesh_worker.models.gguf_file import GgufFile, check_finite
from infermesh_worker_xpu import nibbles
from infermesh_worker_xpu.gguf_decoder.stored_nibbles import can_take_apart, take_apart

Order = NDArray[np.int64]

_PART_NUMBERS = 1 << 22
"""How many numbers are dequantised at once: 16 MiB in float32."""


class WeightReader:
    """Makes parameters of the tensors of one file, and remembers which it has read.

    Its methods raise InvalidArgument, naming the tensor, for a value that is not finite, and FailedPrecondition for one
    that the precision cannot hold.
    """

    def __init__(
        self, file: GgufFile, device: torch.device, dtype: torch.dtype, *, keeps_nibbles: bool = False
    ) -> None:
        """`keeps_nibbles`: whether linear layers also get the file's 4-bit numbers attached."""
        self._keeps_nibbles = keeps_nibbles
        self._file = file
        self._device = device
        self._dtype = dtype
        self._read: set[str] = set()

    def linear(self, linear: Linear, order: Order | None = None) -> nn.Linear:
        """A layer of the matrix and, if there is one, its bias. `order` says which of its rows comes where."""
        weight = self.matrix(linear, order)
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device="meta")
        layer.weight = weight
        if linear.bias is not None:
            layer.bias = _parameter(self._bias(linear.bias, linear, order))
        self.attach_nibbles(layer, linear, order)
        return layer

    def attach_nibbles(self, layer: nn.Linear, linear: Linear, order: Order | None = None) -> None:
        """Attaches the matrix's 4-bit numbers to a layer of it, if they are kept and the file has them."""
        kind = self._file.kind(linear.tensor)
        if not self._keeps_nibbles or not can_take_apart(kind):
            return
        rows, places = self._file.stored(linear.tensor), _places(linear, order)
        step = max(1, _PART_NUMBERS // self._columns(linear.tensor))
        parts = [
            take_apart(rows[places[begin : begin + step]], kind, self._dtype) for begin in range(0, len(places), step)
        ]
        nibbles.attach(layer, nibbles.stacked(parts))

    def matrix(self, linear: Linear, order: Order | None = None, dtype: torch.dtype | None = None) -> nn.Parameter:
        """The rows of the matrix alone, in the model's precision unless `dtype` is another."""
        rows = self._file.stored(linear.tensor)
        target = self._empty(linear.rows, self._columns(linear.tensor), dtype=dtype)
        self._fill(target, linear.tensor, rows, _places(linear, order))
        return _parameter(target)

    def stacks(self, *parts: Linear) -> nn.Parameter:
        """The matrices of all experts, [experts, rows of all parts, columns]. Each part is of a tensor [experts, …]."""
        count, columns = self._file.contents.tensors[parts[0].tensor].shape[0], self._columns(parts[0].tensor)
        target = self._empty(count, sum(part.rows for part in parts), columns)
        begin = 0
        for part in parts:
            stored, height = self._file.stored(part.tensor), self._file.contents.tensors[part.tensor].shape[1]
            for expert in range(count):
                rows = stored[expert].reshape(height, -1)
                self._fill(target[expert, begin : begin + part.rows], part.tensor, rows, _places(part, None))
            begin += part.rows
        return _parameter(target)

    def vector(self, name: str, order: Order | None = None) -> nn.Parameter:
        """A tensor of one dimension in float32, which norms compute in."""
        self._read.add(name)
        values = self._file.vector(name)
        return _parameter(torch.tensor(values if order is None else values[order], device=self._device))

    def row(self, name: str) -> nn.Linear:
        """A layer with one output, whose weight is a tensor of one dimension."""
        weight = self.vector(name)[None].to(self._dtype)
        layer = nn.Linear(weight.shape[1], 1, bias=False, device="meta")
        layer.weight = _parameter(weight)
        return layer

    def check_all_read(self) -> None:
        """Raises FailedPrecondition, naming a tensor, if a part of the model was left out.

        Rope factors are the exception: the account says which of them apply.
        """
        for name in self._file.contents.tensors:
            if name not in self._read and name not in ROPE_TENSORS:
                raise FailedPrecondition(
                    f"worker-xpu cannot serve this GGUF file: it does not know how to apply the tensor {name}",
                    reason="MODEL_NOT_SUPPORTED",
                )

    def _bias(self, name: str, linear: Linear, order: Order | None) -> Tensor:
        values = self.vector(name)[torch.from_numpy(_places(linear, order)).to(self._device)]
        return values.to(self._dtype)

    def _fill(self, target: Tensor, name: str, rows: NDArray[Any], places: Order) -> None:
        """Dequantises the rows at `places` into target [rows, columns]."""
        self._read.add(name)
        step = max(1, _PART_NUMBERS // target.shape[1])
        for begin in range(0, len(places), step):
            values = gguf.dequantize(rows[places[begin : begin + step]], self._file.kind(name))
            self._check(name, values, target.dtype)
            target[begin : begin + step].copy_(torch.from_numpy(values))

    @staticmethod
    def _check(name: str, values: NDArray[np.float32], dtype: torch.dtype) -> None:
        largest = max(float(values.max()), -float(values.min()))  # NaN, if there is one
        if largest <= torch.finfo(dtype).max:
            return
        check_finite(name, values)
        raise FailedPrecondition(
            f"this GGUF file's tensor {name} has values up to {largest:g}, which {dtype} cannot hold; set "
            "INFERMESH_DTYPE to bf16 or fp32",
            reason="DTYPE_NOT_SUPPORTED",
        )

    def _columns(self, name: str) -> int:
        return self._file.contents.tensors[name].shape[-1]

    def _empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or self._dtype, device=self._device)


def _places(linear: Linear, order: Order | None) -> Order:
    """The number of each wanted row within its tensor."""
    return linear.begin + (np.arange(linear.rows) if order is None else order)


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
