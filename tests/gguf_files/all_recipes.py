"""The recipes that readers of GGUF files are tested with: each way in which the architectures differ."""

import math
from collections.abc import Mapping

from tests.gguf_files.recipes import HIDDEN, Recipe

_GEMMA_SCALE = math.sqrt(HIDDEN)
_BIASES = ("attn_q", "attn_k", "attn_v")
_ALL_BIASES = (*_BIASES, "attn_output", "ffn_gate", "ffn_up", "ffn_down")

RECIPES: Mapping[str, Recipe] = {
    "llama": Recipe(interleaved=True),
    "llama-biases-own-head": Recipe(interleaved=True, biases=_ALL_BIASES, tied=False),
    "llama-part-of-the-head": Recipe(interleaved=True, rope_dimensions=8),
    "llama-rope-freqs": Recipe(interleaved=True, rope_factors="rope_freqs.weight"),
    "llama-linear": Recipe(
        interleaved=True, rope_scale=0.25, keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    ),
    "llama-old-linear": Recipe(interleaved=True, rope_scale=0.5, keys={"rope.scale_linear": 2.0}),
    "llama-scaling-none": Recipe(interleaved=True, keys={"rope.scaling.type": "none", "rope.scaling.factor": 4.0}),
    "llama-yarn": Recipe(
        interleaved=True,
        rope_scale=0.25,
        yarn_context=128,
        keys={
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 128,
        },
    ),
    "llama-window": Recipe(interleaved=True, windows=(20, 20), keys={"attention.sliding_window": 20}),
    "llama-capped": Recipe(interleaved=True, attention_cap=2.0, keys={"attn_logit_softcapping": 2.0}),
    "llama-attention-scale": Recipe(interleaved=True, attention_scale=0.4, keys={"attention.scale": 0.4}),
    "qwen2": Recipe(architecture="qwen2", biases=_BIASES, rope_base=1e6),
    "qwen3": Recipe(architecture="qwen3", qk_norm="head", tied=False),
    "gemma": Recipe(architecture="gemma", activation="gelu_tanh", embedding_scale=_GEMMA_SCALE),
    "gemma2": Recipe(
        architecture="gemma2",
        activation="gelu_tanh",
        embedding_scale=_GEMMA_SCALE,
        post_norms=True,
        final_cap=10.0,
        windows=(20, 0),
        keys={
            "attention.sliding_window": 20,
            "final_logit_softcapping": 10.0,
            "attn_logit_softcapping": 0.0,
        },
    ),
    "gemma2-capped": Recipe(
        architecture="gemma2",
        layers=4,
        activation="gelu_tanh",
        embedding_scale=_GEMMA_SCALE,
        attention_scale=0.5,
        post_norms=True,
        attention_cap=1.5,
        final_cap=10.0,
        windows=(20, 0, 20, 0),
        keys={
            "attention.sliding_window": 20,
            "attention.scale": 0.5,
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 10.0,
        },
    ),
    "gemma3": Recipe(
        architecture="gemma3",
        layers=6,
        activation="gelu_tanh",
        embedding_scale=_GEMMA_SCALE,
        qk_norm="head",
        post_norms=True,
        windows=(20, 20, 20, 20, 20, 0),
        rope_base=1e6,
        local_rope_base=10000.0,
        rope_scale=0.125,
        keys={
            "attention.sliding_window": 20,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "phi3": Recipe(
        architecture="phi3",
        fused=True,
        tied=False,
        rope_dimensions=12,
        rope_factors="rope_factors_long.weight",
        rope_magnitude=1.19,
        windows=(200, 200),
        keys={
            "rope.scaling.original_context_length": 64,
            "rope.scaling.attn_factor": 1.19,
            "attention.sliding_window": 200,
        },
    ),
    "smollm3": Recipe(architecture="smollm3", layers=4, interleaved=True, without_rope=(3,)),
    "granite": Recipe(
        architecture="granite",
        interleaved=True,
        attention_scale=0.5,
        embedding_scale=3.0,
        residual_scale=0.22,
        logit_scale=1 / 8,
        keys={
            "attention.scale": 0.5,
            "embedding_scale": 3.0,
            "residual_scale": 0.22,
            "logit_scale": 8.0,
        },
    ),
    "olmo2": Recipe(architecture="olmo2", qk_norm="whole", pre_norms=False, post_norms=True, tied=False),
    "olmo3": Recipe(
        architecture="olmo2",
        layers=4,
        qk_norm="whole",
        pre_norms=False,
        post_norms=True,
        tied=False,
        windows=(20, 20, 20, 0),
        local_rope_base=10000.0,
        rope_scale=0.5,
        keys={
            "attention.sliding_window": 20,
            "attention.sliding_window_pattern": [True, True, True, False],
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 2.0,
        },
    ),
}
"""By name; the file's own keys say what the other fields say to the reference."""
