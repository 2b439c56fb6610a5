"""Writes a transformers model to a GGUF file as llama.cpp's converter does: the same names, keys and order of rows.

It is written from transformers' side, so that it shares no mistake with our readers. Facts come from llama.cpp:
conversion/*.py.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedModel

from tests.gguf_files.recipes import add_key, finish


@dataclass(frozen=True, slots=True)
class Form:
    """How a model type of transformers is stored."""

    name: str
    """general.architecture."""
    permuted: bool = False
    """Rows of queries and keys are reordered, so that neighbours form a rotary pair."""
    norms_less_one: bool = False
    """transformers stores norms less 1."""


FORMS: Mapping[str, Form] = {
    "llama": Form("llama", permuted=True),
    "mistral": Form("llama", permuted=True),
    "mixtral": Form("llama", permuted=True),
    "qwen2": Form("qwen2"),
    "qwen2_moe": Form("qwen2moe"),
    "qwen3": Form("qwen3"),
    "qwen3_moe": Form("qwen3moe"),
    "gemma": Form("gemma", norms_less_one=True),
    "gemma2": Form("gemma2", norms_less_one=True),
    "gemma3_text": Form("gemma3", norms_less_one=True),
    "phi3": Form("phi3"),
    "smollm3": Form("smollm3", permuted=True),
    "granite": Form("granite", permuted=True),
    "olmo2": Form("olmo2"),
}
"""By transformers' model type."""


def write_gguf(model: PreTrainedModel, path: Path, *, kind: gguf.GGMLQuantizationType) -> None:
    """Writes the model with its matrices in `kind`, and a tokenizer of tokens t0, t1, and so on."""
    config, form = model.config, FORMS[model.config.model_type]
    writer = gguf.GGUFWriter(path, form.name)
    for name, value in _keys(config).items():
        add_key(writer, f"{form.name}.{name}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"t{index}" for index in range(config.vocab_size)])
    writer.add_eos_token_id(config.eos_token_id)
    for name, values in _tensors(model, form):
        if values.ndim == 1:
            writer.add_tensor(name, values.numpy())
        else:
            writer.add_tensor(name, gguf.quantize(values.numpy(), kind), raw_dtype=kind)
    finish(writer)


def _keys(config: Any) -> dict[str, Any]:
    """The architecture's keys, without its prefix."""
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head_size,
    }
    named = {
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "attention.scale": getattr(config, "attention_multiplier", None),
        "embedding_scale": getattr(config, "embedding_multiplier", None),
        "residual_scale": getattr(config, "residual_multiplier", None),
        "logit_scale": getattr(config, "logits_scaling", None),
    }
    if getattr(config, "sliding_window", None) and config.model_type.startswith("gemma3"):
        named["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in config.layer_types]
    return keys | {name: value for name, value in named.items() if value} | _rope_keys(config) | _expert_keys(config)


def _rope_keys(config: Any) -> dict[str, Any]:
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    keys = {"rope.freq_base": float(rope["rope_theta"])}
    match rope.get("rope_type", "default"):
        case "default" | "llama3":  # llama3 is told by a tensor
            return keys
        case "linear":
            told: dict[str, Any] = {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
        case "yarn":
            told = {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": rope["factor"],
                "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
            }
        case "longrope":
            original = rope["original_max_position_embeddings"]
            scale = config.max_position_embeddings / original
            told = {
                "rope.scaling.original_context_length": original,
                "rope.scaling.attn_factor": math.sqrt(1 + math.log(scale) / math.log(original)),
            }
        case other:
            raise ValueError(f"GGUF has no rope scaling of the type {other!r}")
    return keys | told


def _expert_keys(config: Any) -> dict[str, Any]:
    count = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if not count:
        return {}
    keys = {"expert_count": count, "expert_used_count": config.num_experts_per_tok}
    if config.model_type != "mixtral":
        keys["expert_feed_forward_length"] = config.moe_intermediate_size
    if shared := getattr(config, "shared_expert_intermediate_size", None):
        keys["expert_shared_feed_forward_length"] = shared
    return keys


def _tensors(model: PreTrainedModel, form: Form) -> Iterator[tuple[str, torch.Tensor]]:
    config: Any = model.config
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == form.name)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, stored in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = stored.float()
        if form.norms_less_one and name.endswith("norm.weight"):
            values = values + 1
        for rows, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if form.permuted and f".{rows}." in name:
                values = _permuted(values, heads)
        if name.endswith("experts.gate_up_proj"):
            for part, half in zip(("gate", "up"), values.chunk(2, dim=1), strict=True):
                yield f"blk.{name.split('.')[2]}.ffn_{part}_exps.weight", half.contiguous()
            continue
        named = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if named is None:
            raise ValueError(f"{form.name} has no tensor for {name}")
        yield named if named.endswith((".weight", ".bias")) else f"{named}.weight", values.contiguous()
    yield from _rope_tensors(config)


def _permuted(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Puts the two numbers of each rotary pair beside each other; transformers has them half a head apart."""
    return values.reshape(heads, 2, -1, *values.shape[1:]).transpose(1, 2).reshape(values.shape)


def _rope_tensors(config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    rope = config.rope_parameters
    if rope.get("rope_type") == "longrope":
        yield "rope_factors_long.weight", torch.tensor(rope["long_factor"])
        yield "rope_factors_short.weight", torch.tensor(rope["short_factor"])
    if rope.get("rope_type") == "llama3":
        yield "rope_freqs.weight", torch.tensor(_llama3_factors(config, rope))


def _llama3_factors(config: Any, rope: Mapping[str, Any]) -> list[float]:
    """What each frequency is divided by: nothing where it turns often, the whole factor where it hardly turns."""
    factors, original = [], rope["original_max_position_embeddings"]
    slow, fast = rope["low_freq_factor"], rope["high_freq_factor"]
    for index in range(0, config.head_dim, 2):
        turns = original / (2 * math.pi * rope["rope_theta"] ** (index / config.head_dim))
        share = min(max((turns - slow) / (fast - slow), 0.0), 1.0)
        factors.append(1 / (share + (1 - share) / rope["factor"]))
    return factors
