"""The architectures whose GGUF files are read, and how their decoders differ.

Facts come from llama.cpp: src/models/*.cpp and `llama_model_rope_type`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from infermesh_runtime.gguf_account.spec import Activation, Pairing


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How one architecture differs from the plain decoder: norms before attention and MLP, gated SiLU MLP."""

    pairing: Pairing
    activation: Activation = "silu"
    qk_norm: Literal["none", "head", "whole"] = "none"
    pre_norms: bool = True
    post_norms: bool = False
    experts: Literal["never", "sometimes", "always"] = "never"
    """Whether layers have a mixture of experts in place of the MLP; if sometimes, expert_count says so."""
    normalises_experts: bool = True
    """The weights of the chosen experts are divided by their sum, unless expert_weights_norm says otherwise."""
    experts_share_mlp: bool = False
    """Without expert_feed_forward_length, feed_forward_length is the width of all chosen experts, not of each."""
    shared_expert: Literal["never", "gated", "sometimes"] = "never"
    """gated: there always is one, and each token decides its share; sometimes: if its length is in the file."""
    fused_mlp: bool = False
    """ffn_up holds the gate's rows, then those of the up projection."""
    scales_embedding: bool = False
    """Embeddings are multiplied by the root of the hidden size."""
    rope_tensors: bool = False
    """The file may have rope_freqs, rope_factors_long and rope_factors_short."""
    window_period: int = 0
    """Every layer whose number + 1 is a multiple attends to all tokens, the others to the window; 0: none does."""
    default_window: int = 0
    local_rope_base: float = 0.0
    """Rope base of the layers with a window; 0: as the others."""
    local_rope_unscaled: bool = False
    """Rope scaling does not apply to the layers with a window."""
    no_rope_period: int = 0
    """Every layer whose number + 1 is a multiple has no rotary positions."""
    attention_soft_cap: float = 0.0
    final_soft_cap: float = 0.0
    large_layers: int = 0
    """With this many layers, attention is scaled by hidden size / heads, not by the size of a head."""
    divides_logits: bool = False
    """logit_scale divides the logits."""
    optional_rope: bool = False
    """rope.scaling.finetuned = false means that no layer has rotary positions."""


_GEMMA2 = Architecture(
    pairing="halves",
    activation="gelu_tanh",
    post_norms=True,
    scales_embedding=True,
    window_period=2,
    default_window=4096,
    attention_soft_cap=50.0,
    final_soft_cap=30.0,
    large_layers=46,
)
_GEMMA3 = Architecture(
    pairing="halves",
    activation="gelu_tanh",
    qk_norm="head",
    post_norms=True,
    scales_embedding=True,
    window_period=6,
    local_rope_base=10000.0,
    local_rope_unscaled=True,
    large_layers=62,
)
_GRANITE = Architecture(
    pairing="interleaved",
    rope_tensors=True,
    divides_logits=True,
    optional_rope=True,
    experts="sometimes",
    shared_expert="sometimes",
)
ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(pairing="interleaved", rope_tensors=True, experts="sometimes"),
    "qwen2": Architecture(pairing="halves", rope_tensors=True),
    "qwen3": Architecture(pairing="halves", qk_norm="head", rope_tensors=True),
    "gemma": Architecture(pairing="halves", activation="gelu_tanh", scales_embedding=True),
    "gemma2": _GEMMA2,
    "gemma3": _GEMMA3,
    "phi3": Architecture(pairing="halves", fused_mlp=True, rope_tensors=True),
    "smollm3": Architecture(pairing="interleaved", no_rope_period=4, rope_tensors=True),
    "granite": _GRANITE,
    "olmo2": Architecture(
        pairing="halves",
        qk_norm="whole",
        pre_norms=False,
        post_norms=True,
        window_period=4,
        local_rope_unscaled=True,
    ),
    "qwen2moe": Architecture(
        pairing="halves", experts="always", normalises_experts=False, experts_share_mlp=True, shared_expert="gated"
    ),
    "qwen3moe": Architecture(pairing="halves", qk_norm="head", experts="always", experts_share_mlp=True),
    "olmoe": Architecture(pairing="halves", qk_norm="whole", experts="always", normalises_experts=False),
    "granitemoe": replace(_GRANITE, experts="always"),
}
"""By general.architecture."""
