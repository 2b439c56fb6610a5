"""Lets a mixture of experts give a token the same bits whatever other tokens are in the batch or go to the same expert.

The kernels that multiply matrices sum in another order for few rows than for many, and how many rows an expert gets
depends on the batch. So routers and experts always compute at least ROWS of them, of which the first are wanted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

IMPLEMENTATION = "infermesh_exact"
"""Name of the experts function, for `from_pretrained`."""

ROWS = 32
"""Twice the number from which on the CPUs that we tried sum in one order."""


def register() -> None:
    """Registers the function with transformers."""
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts)


def make_exact(model: nn.Module) -> None:
    """Makes the model's routers, and the gates of its shared experts, independent of the number of rows, in place.

    Experts are so by the function above.
    """
    for parent in list(model.modules()):
        if type(parent).__name__.endswith("Router"):
            setattr(parent, "forward", _widened(parent.forward))  # noqa: B010 - mypy refuses to assign to a method
        for name, child in list(parent.named_children()):
            if name == "shared_expert_gate" and type(child) is nn.Linear and child.out_features == 1:
                setattr(parent, name, _Gate(child))


class _Gate(nn.Module):
    """A linear layer with one output, repeated to the width of what it is multiplied by.

    The kernel for one output sums by the place of a row among the others, and the sigmoid that follows computes the
    last few numbers of a tensor in another way than the rest.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        sums = (inputs * self.weight).sum(-1, keepdim=True)
        return (sums if self.bias is None else sums + self.bias).repeat(*[1] * (sums.ndim - 1), inputs.shape[-1])


def experts(module: Any, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Sum over each token's experts: hidden [T, size], top_k_index and top_k_weights [T, K]; returns [T, size].

    `module`: the weights of the experts, as transformers' decorator `use_experts_implementation` describes them.
    """
    total = torch.zeros_like(hidden)
    for expert in range(module.num_experts):
        tokens, places = torch.where(top_k_index == expert)
        if len(tokens):
            result = _expert(module, expert, _at_least(hidden[tokens]))[: len(tokens)]
            total.index_add_(0, tokens, result * top_k_weights[tokens, places, None])
    return total


def _expert(module: Any, expert: int, rows: Tensor) -> Tensor:
    inner = _linear(module, "gate_up_proj" if module.has_gate else "up_proj", expert, rows)
    result = _linear(
        module, "down_proj", expert, module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    )
    return module.post_expert_norm(result) if module.has_post_expert_norm else result


def _linear(module: Any, name: str, expert: int, rows: Tensor) -> Tensor:
    weight = getattr(module, name)[expert]
    bias = getattr(module, f"{name}_bias")[expert] if module.has_bias else None
    return nn.functional.linear(rows, weight.T if module.is_transposed else weight, bias)


def _at_least(rows: Tensor) -> Tensor:
    """The rows [T, size], and rows of zeros up to ROWS."""
    return nn.functional.pad(rows, (0, 0, 0, max(0, ROWS - len(rows))))


def _widened(forward: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """The forward function of a router, whose results have one row for each of hidden's [T, size]."""

    def run(hidden: Tensor) -> tuple[Tensor, ...]:
        rows = hidden.reshape(-1, hidden.shape[-1])
        return tuple(part[: len(rows)] for part in forward(_at_least(rows)))

    return run
