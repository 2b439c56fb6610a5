"""Attention of one layer: projections, norms and rotation of queries and keys, and the call of paged attention."""

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.spec import DecoderSpec, RopeSpec
from infermesh_worker_xpu.attention.layers import attend
from infermesh_worker_xpu.gguf_decoder.norm import read_norm
from infermesh_worker_xpu.gguf_decoder.rotary import Rotation, paired_by_halves, rotate
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader


class Heads(nn.Module):
    """The norm of queries or keys, over each head or over all at once, and their split into heads."""

    def __init__(self, norm: nn.Module, head_size: int, *, whole: bool) -> None:
        super().__init__()
        self.norm = norm
        self.head_size = head_size
        self.whole = whole

    def forward(self, rows: Tensor) -> Tensor:
        """[1, T, heads · size] to [1, heads, T, size]."""
        if self.whole:
            return _split(self.norm(rows), self.head_size)
        return self.norm(_split(rows, self.head_size))  # type: ignore[no-any-return] # torch's modules are untyped


class Attention(nn.Module):
    """Attention of the layer with this index, by the function that the model's configuration names."""

    def __init__(self, spec: DecoderSpec, index: int, weights: WeightReader, config: PreTrainedConfig) -> None:
        super().__init__()
        layer, size = spec.layers[index], spec.head_size
        self.config = config
        self.layer_idx = index
        self.head_size = size
        self.scale = spec.attention_scale
        self.window = layer.window or None
        self.soft_cap = spec.attention_soft_cap or None
        self.q_proj, self.q_heads = _projection(spec, layer.query, layer.query_norm, layer.rope, weights)
        self.k_proj, self.k_heads = _projection(spec, layer.key, layer.key_norm, layer.rope, weights)
        self.v_proj = weights.linear(layer.value)
        self.o_proj = weights.linear(layer.output)

    def forward(self, hidden: Tensor, by: Rotation | None) -> Tensor:
        """hidden [1, T, hidden] to the same shape. `by`: the rotation of the step's positions, if there is one."""
        query, key = self.q_proj(hidden), self.k_proj(hidden)
        value = _split(self.v_proj(hidden), self.head_size)
        query, key = self.q_heads(query), self.k_heads(key)
        if by is not None:
            query, key = rotate(query, by), rotate(key, by)
        function = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, attend)
        mixed, _ = function(
            self, query, key, value, None, scaling=self.scale, sliding_window=self.window, softcap=self.soft_cap
        )
        return self.o_proj(mixed.flatten(2))  # type: ignore[no-any-return] # torch's modules are untyped


def _projection(
    spec: DecoderSpec, linear: Linear, norm: str | None, rope: RopeSpec | None, weights: WeightReader
) -> tuple[nn.Linear, Heads]:
    """The projection to queries or keys, ordered so that pairs are halves, and their norm in the same order."""
    size, whole = spec.head_size, spec.norms_whole_heads
    order = paired_by_halves(linear.rows // size, size, rope)
    normed = order if whole else paired_by_halves(1, size, rope)
    heads = Heads(read_norm(weights, norm, spec.norm_epsilon, normed), size, whole=whole)
    return weights.linear(linear, order), heads


def _split(rows: Tensor, head_size: int) -> Tensor:
    return rows.view(1, rows.shape[1], -1, head_size).transpose(1, 2)
