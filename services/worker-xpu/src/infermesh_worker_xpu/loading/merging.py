"""Merges linear layers that read the same input into one, so that fewer and larger kernels run.

Works for any architecture: a forward pass shows which layers share an input (query, key and value; gate and up of an
MLP).
"""

from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from infermesh_worker_xpu import nibbles
from infermesh_worker_xpu.attention import layers as attention


class MergedLinear(nn.Module):
    """Several linear layers with one weight. The first one called computes all results, the last one frees them."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        """Copies the weights of the layers, which must all have a bias or all have none."""
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        self.linear = nn.Linear(layers[0].in_features, sum(self.sizes), bias=layers[0].bias is not None, device="meta")
        for name in [name for name, _ in self.linear.named_parameters()]:
            joined = torch.cat([layer.get_parameter(name) for layer in layers])
            setattr(self.linear, name, nn.Parameter(joined, requires_grad=False))
        nibbles.attach(self.linear, nibbles.joined(layers))
        self.input: Tensor | None = None
        """The input that `results` were computed from."""
        self.results: tuple[Tensor, ...] = ()

    def part(self, index: int, inputs: Tensor) -> Tensor:
        """Output of layer `index` for inputs [..., in_features]: a view of the common result."""
        if self.input is not inputs:
            self.input, self.results = inputs, self.linear(inputs).split(self.sizes, -1)
        result = self.results[index]
        if index == len(self.sizes) - 1:
            self.input, self.results = None, ()
        return result


class MergedPart(nn.Module):
    """Stands in the model where a merged layer was."""

    def __init__(self, merged: MergedLinear, index: int) -> None:
        super().__init__()
        self.merged = merged
        self.index = index

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        return self.merged.part(self.index, inputs)


def merge(model: PreTrainedModel) -> int:
    """Merges the model's linear layers that read the same input, in place. Returns how many it merged.

    Raises FailedPrecondition as attention.record_layers does, and torch.OutOfMemoryError if copied weights do not fit.
    """
    count, groups = 0, _readers(model)
    while groups:
        count += _merge(groups.pop())  # the last to hold these layers, so that their memory is free for the next
    return count


@dataclass(frozen=True, slots=True)
class LinearCall:
    """One call of a linear layer during a forward pass."""

    parent: nn.Module
    name: str
    """The layer's attribute name in `parent`."""
    layer: nn.Linear
    input: Tensor

    @property
    def mergeable_with(self) -> tuple[int, int, bool]:
        """Equal for neighbouring calls whose layers can be merged. Inputs stay alive, so their ids are unique."""
        return id(self.parent), id(self.input), self.layer.bias is None


def _merge(calls: list["LinearCall"]) -> int:
    merged = MergedLinear([call.layer for call in calls])
    for index, call in enumerate(calls):
        setattr(call.parent, call.name, MergedPart(merged, index))
    return len(calls)


def _readers(model: PreTrainedModel) -> list[list[LinearCall]]:
    """Groups of two or more calls: different layers of one module, called with the same tensor."""
    groups = [list(calls) for _, calls in groupby(_linear_calls(model), lambda call: call.mergeable_with)]
    return [calls for calls in groups if 1 < len(calls) == len({call.name for call in calls})]


def _linear_calls(model: PreTrainedModel) -> list[LinearCall]:
    """Every call of a plain linear layer in one forward pass, in order."""
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
