"""The gated MLP of a layer."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.spec import Activation
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader

ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}


class Mlp(nn.Module):
    """down(activation(gate(hidden)) · up(hidden))."""

    def __init__(self, gate: Linear, up: Linear, down: Linear, activation: Activation, weights: WeightReader) -> None:
        super().__init__()
        self.gate_proj = weights.linear(gate)
        self.up_proj = weights.linear(up)
        self.down_proj = weights.linear(down)
        self.activate = ACTIVATIONS[activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., hidden] to the same shape."""
        gate, up = self.gate_proj(hidden), self.up_proj(hidden)
        return self.down_proj(self.activate(gate) * up)  # type: ignore[no-any-return] # torch's modules are untyped
