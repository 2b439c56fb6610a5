"""A decoder in numpy, in float64 and one sequence at a time: what the graphs must compute."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.gguf_files.recipes import HEAD, HEADS, KV_HEADS, MLP, Recipe, Weights
from tests.gguf_files.reference_experts import activated, mixture

Array = NDArray[np.float64]


def log_probabilities(recipe: Recipe, weights: Weights, ids: Sequence[int]) -> Array:
    """Log probabilities [tokens, vocabulary] of the token that follows each of `ids`."""
    hidden = weights["token_embd.weight"][list(ids)] * recipe.embedding_scale
    for index in range(recipe.layers):
        hidden = _layer(recipe, weights, index, hidden)
    head = weights["token_embd.weight"] if recipe.tied else weights["output.weight"]
    logits = _norm(hidden, weights["output_norm.weight"]) @ head.T * recipe.logit_scale
    if recipe.final_cap:
        logits = np.tanh(logits / recipe.final_cap) * recipe.final_cap
    largest = logits.max(-1, keepdims=True)
    probabilities: Array = logits - largest - np.log(np.exp(logits - largest).sum(-1, keepdims=True))
    return probabilities


def _layer(recipe: Recipe, weights: Weights, index: int, hidden: Array) -> Array:
    def linear(node: Array, name: str) -> Array:
        bias = weights.get(f"blk.{index}.{name}.bias", np.zeros(1))
        product: Array = node @ weights[f"blk.{index}.{name}.weight"].T + bias
        return product

    def normed(node: Array, name: str) -> Array:
        weight = weights.get(f"blk.{index}.{name}.weight")
        return node if weight is None else _norm(node, weight)

    node = normed(hidden, "attn_norm")
    if recipe.fused:
        sizes = np.cumsum([HEADS * HEAD, KV_HEADS * HEAD])
        query, key, value = np.split(linear(node, "attn_qkv"), sizes, axis=-1)
    else:
        query, key, value = (linear(node, f"attn_{name}") for name in "qkv")
    if recipe.qk_norm == "whole":
        query, key = normed(query, "attn_q_norm"), normed(key, "attn_k_norm")
    query, key, value = (part.reshape(len(part), -1, HEAD) for part in (query, key, value))
    if recipe.qk_norm == "head":
        query, key = normed(query, "attn_q_norm"), normed(key, "attn_k_norm")
    if index not in recipe.without_rope:
        local = bool(recipe.windows and recipe.windows[index])
        query, key = (_rotated(recipe, weights, part, local=local) for part in (query, key))
    window = recipe.windows[index] if recipe.windows else 0
    mixed = linear(_attention(recipe, query, key, value, window), "attn_output")
    hidden = hidden + normed(mixed, "post_attention_norm") * recipe.residual_scale
    node = normed(hidden, "ffn_norm")
    if recipe.experts:
        change = mixture(recipe, weights, index, node)
    elif recipe.fused:
        gate, up = np.split(linear(node, "ffn_up"), [MLP], axis=-1)
        change = linear(activated(recipe, gate) * up, "ffn_down")
    else:
        change = linear(activated(recipe, linear(node, "ffn_gate")) * linear(node, "ffn_up"), "ffn_down")
    return hidden + normed(change, "post_ffw_norm") * recipe.residual_scale


def _attention(recipe: Recipe, query: Array, key: Array, value: Array, window: int) -> Array:
    count = len(query)
    key, value = (np.repeat(part, HEADS // KV_HEADS, 1) for part in (key, value))
    scores = np.einsum("nhd,mhd->hnm", query, key) * recipe.attention_scale
    if recipe.attention_cap:
        scores = np.tanh(scores / recipe.attention_cap) * recipe.attention_cap
    age = np.arange(count)[:, None] - np.arange(count)
    scores = np.where((age >= 0) & ((age < window) if window else True), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed: Array = np.einsum("hnm,mhd->nhd", scores / scores.sum(-1, keepdims=True), value)
    return mixed.reshape(count, -1)


def _rotated(recipe: Recipe, weights: Weights, heads: Array, *, local: bool) -> Array:
    size = recipe.rope_dimensions
    unscaled = local and recipe.local_rope_base > 0
    base = recipe.local_rope_base if unscaled else recipe.rope_base
    inverse = base ** (-np.arange(0, size, 2) / size)
    magnitude = recipe.rope_magnitude
    if not unscaled:
        if recipe.rope_factors:
            inverse = inverse / weights[recipe.rope_factors]
        scaled = inverse * recipe.rope_scale
        if recipe.yarn_context:
            keep = 1 - _ramp(recipe, size)
            scaled = scaled * (1 - keep) + inverse * keep
            magnitude *= 0.1 * math.log(1 / recipe.rope_scale) + 1
        inverse = scaled
    angle = np.arange(len(heads))[:, None, None] * inverse
    cosine, sine = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    first, second = (slice(0, size, 2), slice(1, size, 2)) if recipe.interleaved else _halves(size)
    turned = heads.copy()
    turned[..., first] = heads[..., first] * cosine - heads[..., second] * sine
    turned[..., second] = heads[..., second] * cosine + heads[..., first] * sine
    return turned


def _halves(size: int) -> tuple[slice, slice]:
    return slice(0, size // 2), slice(size // 2, size)


def _ramp(recipe: Recipe, size: int) -> Array:
    """As transformers' _compute_yarn_parameters, with beta 32 and 1."""

    def dimension(rotations: float) -> float:
        return size * math.log(recipe.yarn_context / (rotations * 2 * math.pi)) / (2 * math.log(recipe.rope_base))

    low, high = max(math.floor(dimension(32)), 0), min(math.ceil(dimension(1)), size - 1)
    ramp: Array = np.clip((np.arange(size // 2) - low) / max(high - low, 1e-3), 0, 1)
    return ramp


def _norm(node: Array, weight: Array) -> Array:
    normed: Array = node / np.sqrt((node**2).mean(-1, keepdims=True) + 1e-5) * weight
    return normed
