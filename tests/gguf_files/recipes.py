"""Writes tiny GGUF files of random weights, one recipe for each way in which decoders differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

VOCABULARY, HIDDEN, HEADS, KV_HEADS, HEAD, MLP = 96, 64, 4, 2, 16, 128
EXPERT_MLP = 96
CONTEXT = 512
Weights = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model, in the words of the reference; `keys` says the same in the words of the file."""

    architecture: str = "llama"
    layers: int = 2
    keys: Mapping[str, Any] = field(default_factory=dict)
    interleaved: bool = False
    activation: str = "silu"
    qk_norm: str = "none"
    pre_norms: bool = True
    post_norms: bool = False
    fused: bool = False
    experts: int = 0
    experts_used: int = 2
    experts_normalised: bool = True
    experts_scale: float = 1.0
    fused_experts: bool = False
    shared_mlp: int = 0
    """Width of the expert that every token uses; 0: there is none."""
    shared_gated: bool = False
    biases: tuple[str, ...] = ()
    tied: bool = True
    windows: tuple[int, ...] = ()
    """Of each layer; empty: none."""
    without_rope: tuple[int, ...] = ()
    """Numbers of layers."""
    rope_base: float = 10000.0
    rope_dimensions: int = HEAD
    rope_scale: float = 1.0
    yarn_context: int = 0
    local_rope_base: float = 0.0
    """Base of layers with a window, whose rope is then not scaled; 0: they are as the others."""
    rope_factors: str = ""
    rope_magnitude: float = 1.0
    attention_scale: float = HEAD**-0.5
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    final_cap: float = 0.0
    attention_cap: float = 0.0


def write(path: Path, recipe: Recipe, *, kind: Kind = Kind.F16, keys: Mapping[str, Any] | None = None) -> Weights:
    """Writes the file with its matrices in `kind`; returns all weights as they can be read from it."""
    writer = gguf.GGUFWriter(path, recipe.architecture)
    for name, value in {**_common_keys(recipe), **recipe.keys, **(keys or {})}.items():
        add_key(
            writer, name if "." in name and name.split(".")[0] in _SECTIONS else f"{recipe.architecture}.{name}", value
        )
    written = {}
    for name, values in _tensors(recipe).items():
        if values.ndim == 1 or name.endswith("ffn_gate_inp.weight"):  # routers are not quantised
            writer.add_tensor(name, values)
            written[name] = values.astype(np.float64)
        else:
            packed = gguf.quantize(values, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
            written[name] = gguf.dequantize(packed, kind).astype(np.float64)
    finish(writer)
    return written


def add_key(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    """Adds a key with the type that its value has in Python; whole numbers are uint32."""
    match value:
        case bool():
            writer.add_bool(name, value)
        case int():
            writer.add_uint32(name, value)
        case float():
            writer.add_float32(name, value)
        case str():
            writer.add_string(name, value)
        case _:
            writer.add_array(name, value)


def finish(writer: gguf.GGUFWriter) -> None:
    """Writes all that was added, and closes the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_SECTIONS = ("general", "tokenizer", "split", "adapter")


def _common_keys(recipe: Recipe) -> dict[str, Any]:
    return {
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "block_count": recipe.layers,
        "feed_forward_length": MLP,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.layer_norm_rms_epsilon": 1e-5,
        **({"expert_count": recipe.experts, "expert_used_count": recipe.experts_used} if recipe.experts else {}),
        "rope.freq_base": recipe.rope_base,
        "rope.dimension_count": recipe.rope_dimensions,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [f"t{index}" for index in range(VOCABULARY)],
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
    }


def _tensors(recipe: Recipe) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)

    def matrix(rows: int, columns: int, scale: float = 0.25) -> NDArray[np.float32]:
        return (rng.standard_normal((rows, columns)) * scale).astype(np.float32)

    def norm(width: int) -> NDArray[np.float32]:
        return (1 + rng.standard_normal(width) * 0.2).astype(np.float32)

    made = {"token_embd.weight": matrix(VOCABULARY, HIDDEN, 1.0), "output_norm.weight": norm(HIDDEN)}
    if not recipe.tied:
        made["output.weight"] = matrix(VOCABULARY, HIDDEN)
    if recipe.rope_factors:
        factors = np.linspace(1, 6, recipe.rope_dimensions // 2).astype(np.float32)
        made[recipe.rope_factors] = factors
        if "_long" in recipe.rope_factors:
            made[recipe.rope_factors.replace("_long", "_short")] = factors * 0 + 1
    query, key = HEADS * HEAD, KV_HEADS * HEAD
    for index in range(recipe.layers):
        rows = {"attn_q": query, "attn_k": key, "attn_v": key, "ffn_gate": MLP, "ffn_up": MLP}
        if recipe.fused:
            rows = {"attn_qkv": query + 2 * key, "ffn_up": 2 * MLP}
        columns = {"attn_output": (HIDDEN, query), "ffn_down": (HIDDEN, MLP)}
        if recipe.experts:
            del rows["ffn_gate"], rows["ffn_up"], columns["ffn_down"]
            made |= {f"blk.{index}.{name}.weight": values for name, values in _experts(recipe, rng).items()}
        for name, shape in {**{name: (count, HIDDEN) for name, count in rows.items()}, **columns}.items():
            made[f"blk.{index}.{name}.weight"] = matrix(*shape)
            if name in recipe.biases:
                made[f"blk.{index}.{name}.bias"] = (rng.standard_normal(shape[0]) * 0.3).astype(np.float32)
        widths = {"head": (HEAD, HEAD), "whole": (query, key), "none": (0, 0)}[recipe.qk_norm]
        norms = {"attn_q_norm": widths[0], "attn_k_norm": widths[1]}
        norms |= dict.fromkeys(("attn_norm", "ffn_norm"), HIDDEN * recipe.pre_norms)
        norms |= dict.fromkeys(("post_attention_norm", "post_ffw_norm"), HIDDEN * recipe.post_norms)
        made |= {f"blk.{index}.{name}.weight": norm(width) for name, width in norms.items() if width}
    return made


def _experts(recipe: Recipe, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """The tensors of one layer's experts."""
    shapes: dict[str, tuple[int, ...]] = {
        "ffn_gate_inp": (recipe.experts, HIDDEN),
        "ffn_gate_exps": (recipe.experts, EXPERT_MLP, HIDDEN),
        "ffn_up_exps": (recipe.experts, EXPERT_MLP, HIDDEN),
        "ffn_down_exps": (recipe.experts, HIDDEN, EXPERT_MLP),
    }
    if recipe.fused_experts:
        del shapes["ffn_gate_exps"], shapes["ffn_up_exps"]
        shapes["ffn_gate_up_exps"] = (recipe.experts, 2 * EXPERT_MLP, HIDDEN)
    if recipe.shared_mlp:
        shapes |= dict.fromkeys(("ffn_gate_shexp", "ffn_up_shexp"), (recipe.shared_mlp, HIDDEN))
        shapes["ffn_down_shexp"] = (HIDDEN, recipe.shared_mlp)
    if recipe.shared_gated:
        shapes["ffn_gate_inp_shexp"] = (HIDDEN,)
    return {name: (rng.standard_normal(shape) * 0.25).astype(np.float32) for name, shape in shapes.items()}
