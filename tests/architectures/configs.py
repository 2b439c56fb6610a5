"""Tiny models of each architecture with random weights, as transformers saves them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig

VOCAB = 160

SMALL: Mapping[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
EXPERTS: dict[str, object] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
THETA = {"rope_theta": 10000.0}
ORIGINAL: dict[str, Any] = {"original_max_position_embeddings": 48}
LLAMA3_ROPE = {
    **THETA,
    **ORIGINAL,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
LONG_ROPE = {**THETA, **ORIGINAL, "rope_type": "longrope", "short_factor": [1.5] * 8, "long_factor": [6.0] * 8}
PART_ROPE = {**LONG_ROPE, "short_factor": [1.0, 1.1, 1.3, 1.5, 1.7, 2.0], "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 9.0]}

CONFIGS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "llama": ("llama", {}),
    "llama-mha": ("llama", {"num_key_value_heads": 4}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 9}),
    "phi3": ("phi3", {"sliding_window": 40}),
    "phi": ("phi", {}),
    "gemma": ("gemma", {}),
    "gemma2": (
        "gemma2",
        {
            "sliding_window": 12,
            "layer_types": ALTERNATING,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 16,
        },
    ),
    "gemma3": ("gemma3_text", {"sliding_window": 12, "layer_types": ALTERNATING, "query_pre_attn_scalar": 16}),
    "smollm3": ("smollm3", {"num_hidden_layers": 4}),  # the last layer has no rotary positions
    "olmo2": ("olmo2", {}),
    "granite": (
        "granite",
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.1, "residual_multiplier": 0.3, "logits_scaling": 0.5},
    ),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2-moe": ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3-moe": ("qwen3_moe", {**EXPERTS, "norm_topk_prob": True}),
    "llama-scaled": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "qwen2-yarn": ("qwen2", {"rope_parameters": {**THETA, "rope_type": "yarn", "factor": 4.0, **ORIGINAL}}),
    "llama-linear": ("llama", {"rope_parameters": {**THETA, "rope_type": "linear", "factor": 4.0}}),
    "llama-dynamic": (
        "llama",
        {"max_position_embeddings": 48, "rope_parameters": {**THETA, "rope_type": "dynamic", "factor": 4.0}},
    ),
    "phi4-mini": (
        "phi3",
        {"tie_word_embeddings": True, **ORIGINAL, "partial_rotary_factor": 0.75, "rope_parameters": PART_ROPE},
    ),
    "phi3-long": ("phi3", {"sliding_window": 40, **ORIGINAL, "rope_parameters": LONG_ROPE}),
}
"""By name: transformers' model type, and what differs from SMALL.

The shared expert's size is a multiple of 32, as in real models: torch computes the activation of a tensor's last few
numbers in another way than the rest, so `exact` refuses a model in which those are not always the same.
"""


def tiny_config(name: str) -> PretrainedConfig:
    """The configuration of the model that CONFIGS has under this name."""
    model_type, changes = CONFIGS[name]
    return transformers.AutoConfig.for_model(model_type, **{**SMALL, **changes})


def save_tiny(config: PretrainedConfig, folder: Path, *, on_grid: bool = False) -> Path:
    """Writes a model with random weights that are large enough for each of them to matter; returns its folder.

    `on_grid`: every row of a matrix is whole multiples of a power of two from -128 to 127, both included, so that
    compressing it to 8 bits changes nothing.
    """
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(_on_grid(parameter) if on_grid else torch.randn_like(parameter) * 0.15)
            else:  # norms keep their mean, which differs between architectures; biases have 0
                parameter.add_(torch.randn_like(parameter), alpha=0.15)
    model.save_pretrained(folder)
    return folder


def _on_grid(like: torch.Tensor) -> torch.Tensor:
    steps = torch.randint_like(like, -128, 128)
    steps[..., 0], steps[..., 1] = -128, 127
    return steps * 2**-9
