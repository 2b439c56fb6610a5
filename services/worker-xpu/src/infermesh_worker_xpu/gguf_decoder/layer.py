"""One layer of a decoder: attention, then an MLP or experts, each with its norms, added to the residual."""

from torch import Tensor, nn
from transformers import PreTrainedConfig

from infermesh_runtime.gguf_account.spec import DecoderSpec
from infermesh_worker_xpu.gguf_decoder.attention import Attention
from infermesh_worker_xpu.gguf_decoder.experts import Mixture
from infermesh_worker_xpu.gguf_decoder.mlp import Mlp
from infermesh_worker_xpu.gguf_decoder.norm import read_norm
from infermesh_worker_xpu.gguf_decoder.rotary import Rotation
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader


class Layer(nn.Module):
    """The layer with this index. `experts`: name of the function, known to transformers, that runs experts."""

    def __init__(
        self, spec: DecoderSpec, index: int, weights: WeightReader, config: PreTrainedConfig, experts: str
    ) -> None:
        super().__init__()
        layer, epsilon = spec.layers[index], spec.norm_epsilon
        self.residual_scale = spec.residual_scale
        self.attention_norm = read_norm(weights, layer.attention_norm, epsilon)
        self.self_attn = Attention(spec, index, weights, config)
        self.attention_post_norm = read_norm(weights, layer.attention_post_norm, epsilon)
        self.mlp_norm = read_norm(weights, layer.mlp_norm, epsilon)
        self.mlp = _mlp(spec, index, weights, experts)
        self.mlp_post_norm = read_norm(weights, layer.mlp_post_norm, epsilon)

    def forward(self, hidden: Tensor, by: Rotation | None) -> Tensor:
        """hidden [1, T, hidden] to the same shape. `by`: the rotation of the step's positions, if the layer rotates."""
        mixed = self.attention_post_norm(self.self_attn(self.attention_norm(hidden), by))
        hidden = hidden + scaled(mixed, self.residual_scale)
        return hidden + scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(hidden))), self.residual_scale)


def scaled(values: Tensor, scale: float) -> Tensor:
    """The product; values themselves if the scale is 1."""
    return values if scale == 1.0 else values * scale


def _mlp(spec: DecoderSpec, index: int, weights: WeightReader, experts: str) -> nn.Module:
    layer = spec.layers[index]
    if layer.experts is None:
        return Mlp(layer.gate, layer.up, layer.down, spec.activation, weights)
    return Mixture(layer, layer.experts, spec.activation, weights, experts)
