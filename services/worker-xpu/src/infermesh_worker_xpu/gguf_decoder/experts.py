"""A layer's mixture of experts: the router, the experts that it chooses for each token, and the shared expert."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from infermesh_runtime.gguf_account.spec import Activation, ExpertsSpec, LayerSpec, SharedExpertSpec
from infermesh_worker_xpu.gguf_decoder.mlp import ACTIVATIONS, Mlp
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader


class Mixture(nn.Module):
    """The sum of what the chosen experts and the shared expert make of each token."""

    def __init__(
        self, layer: LayerSpec, experts: ExpertsSpec, activation: Activation, weights: WeightReader, implementation: str
    ) -> None:
        super().__init__()
        self.router = TopRouter(experts, weights)
        self.experts = Experts(layer, experts.count, activation, weights, implementation)
        self.shared = None if experts.shared is None else SharedExpert(experts.shared, activation, weights)

    def forward(self, hidden: Tensor) -> Tensor:
        """[1, T, hidden] to the same shape."""
        rows = hidden[0]
        change: Tensor = self.experts(rows, *self.router(rows))
        if self.shared is not None:
            change = change + self.shared(rows)
        return change[None]


class TopRouter(nn.Module):
    """Chooses each token's experts and their weights, in float32."""

    def __init__(self, experts: ExpertsSpec, weights: WeightReader) -> None:
        super().__init__()
        self.weight = weights.matrix(experts.router, dtype=torch.float32)
        self.used = experts.used
        self.normalised = experts.normalised
        self.scale = experts.scale

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """rows [T, hidden] to the numbers of the experts and their weights, [T, used] each."""
        probabilities = functional.linear(rows.float(), self.weight).softmax(-1)
        shares, chosen = probabilities.topk(self.used, -1)
        if self.normalised:
            shares = shares / shares.sum(-1, keepdim=True)
        return chosen, (shares * self.scale).to(rows.dtype)


class Experts(nn.Module):
    """The experts' weights, as transformers' functions for experts want them."""

    has_gate = True
    has_bias = False
    has_post_expert_norm = False
    is_transposed = False
    is_concatenated = True
    _is_expert_parallel = False

    def __init__(
        self, layer: LayerSpec, count: int, activation: Activation, weights: WeightReader, implementation: str
    ) -> None:
        super().__init__()
        self.num_experts = count
        self.gate_up_proj = weights.stacks(layer.gate, layer.up)
        self.down_proj = weights.stacks(layer.down)
        self.act_fn = ACTIVATIONS[activation]
        self.function: Callable[..., Any] = ALL_EXPERTS_FUNCTIONS[implementation]

    def forward(self, rows: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        """rows [T, hidden] to the same shape; chosen and shares [T, used]."""
        return self.function(self, rows, chosen, shares)  # type: ignore[no-any-return] # transformers' is untyped

    def _apply_gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return self.act_fn(gate) * up


class SharedExpert(nn.Module):
    """The expert of every token; the token may decide its share."""

    def __init__(self, shared: SharedExpertSpec, activation: Activation, weights: WeightReader) -> None:
        super().__init__()
        self.mlp = Mlp(shared.gate, shared.up, shared.down, activation, weights)
        self.shared_expert_gate = None if shared.share is None else weights.row(shared.share)

    def forward(self, rows: Tensor) -> Tensor:
        """[T, hidden] to the same shape."""
        change: Tensor = self.mlp(rows)
        if self.shared_expert_gate is None:
            return change
        return self.shared_expert_gate(rows).sigmoid() * change  # type: ignore[no-any-return] # torch's modules are untyped
