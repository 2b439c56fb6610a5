"""Owns linear layers that read the same input, computed as one: fewer and larger kernels. Knows no architecture.

Which layers these are (query, key and value; the gate and up of an MLP) is seen in a forward pass of the model.
"""

from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from infermesh_worker_xpu.attention import layers as attention


class MergedLinear(nn.Module):
    """Linear layers under one weight: the first that is called computes all, the last lets go of what that gave."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        """Copies the weights. All of the layers have a bias, or none has."""
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        self.linear = nn.Linear(layers[0].in_features, sum(self.sizes), bias=layers[0].bias is not None, device="meta")
        for name in [name for name, _ in self.linear.named_parameters()]:
            joined = torch.cat([layer.get_parameter(name) for layer in layers])
            setattr(self.linear, name, nn.Parameter(joined, requires_grad=False))
        self.input: Tensor | None = None
        """What `results` were computed of."""
        self.results: tuple[Tensor, ...] = ()

    def part(self, index: int, inputs: Tensor) -> Tensor:
        """What layer `index` makes of inputs [..., in_features]: a view of what all make."""
        if self.input is not inputs:
            self.input, self.results = inputs, self.linear(inputs).split(self.sizes, -1)
        result = self.results[index]
        if index == len(self.sizes) - 1:
            self.input, self.results = None, ()
        return result


class MergedPart(nn.Module):
    """A layer that was merged, in its old place."""

    def __init__(self, merged: MergedLinear, index: int) -> None:
        super().__init__()
        self.merged = merged
        self.index = index

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        return self.merged.part(self.index, inputs)


def merge(model: PreTrainedModel) -> int:
    """Merges the model's linear layers that read the same input, in place; returns how many it merged.

    Raises FailedPrecondition as attention.record_layers does, torch.OutOfMemoryError where a copy of some does not fit.
    """
    count = 0
    for calls in _readers(model):
        merged = MergedLinear([call.layer for call in calls])
        for index, call in enumerate(calls):
            setattr(call.parent, call.name, MergedPart(merged, index))
        count += len(calls)
    return count


@dataclass(frozen=True, slots=True)
class LinearCall:
    """Of a linear layer, in the model's order."""

    parent: nn.Module
    name: str
    """The layer's in `parent`."""
    layer: nn.Linear
    input: Tensor

    @property
    def mergeable_with(self) -> tuple[int, int, bool]:
        """Equal for calls in a row whose layers can be one. The calls are all alive, so ids are not used again."""
        return id(self.parent), id(self.input), self.layer.bias is None


def _readers(model: PreTrainedModel) -> list[list[LinearCall]]:
    """Calls, two and more, of different layers of one module with the same tensor."""
    groups = [list(calls) for _, calls in groupby(_linear_calls(model), lambda call: call.mergeable_with)]
    return [calls for calls in groups if 1 < len(calls) == len({call.name for call in calls})]


def _linear_calls(model: PreTrainedModel) -> list[LinearCall]:
    """Every call of a plain linear layer in a forward pass."""
    calls: list[LinearCall] = []

    def note(parent: nn.Module, name: str, layer: nn.Linear, given: tuple[Tensor]) -> None:
        calls.append(LinearCall(parent, name, layer, given[0]))

    hooks = [
        child.register_forward_pre_hook(partial(note, parent, name))
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    try:
        with torch.inference_mode():
            attention.record_layers(model, tokens=2, rows=1)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
