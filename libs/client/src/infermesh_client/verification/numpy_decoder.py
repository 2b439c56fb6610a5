"""Computes logits of a GGUF model in numpy from its dequantised weights, independently of every worker.

It knows a few architectures and every key that they use. A model with any other key or tensor has no reference, so that
a wrong reference never accuses a right import. The arithmetic is llama.cpp's: rotary pairs lie as the file stores them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from infermesh_client.verification import numpy_experts
from infermesh_client.verification.comparison import NEAR_TIE, Answer, NoReferenceError
from infermesh_client.verification.gguf_weights import Array, GgufWeights
from infermesh_client.verification.numpy_experts import Experts, gated, read_experts, run_experts
from infermesh_client.weight_files.gguf_header import ArrayFacts

INTERLEAVED, HALVES = "interleaved", "halves"
ARCHITECTURES: Mapping[str, str] = {
    **dict.fromkeys(("llama", "granite", "granitemoe"), INTERLEAVED),
    **dict.fromkeys(("qwen2", "qwen3", "qwen2moe", "qwen3moe", "olmoe"), HALVES),
}
"""Architectures with a reference, and how their rotary pairs lie in a head."""
_WITHOUT_EFFECT = {"context_length", "block_count", "embedding_length", "feed_forward_length", "vocab_size"}
_WITHOUT_EFFECT |= numpy_experts.WITHOUT_EFFECT
_SCALES = {"attention.scale", "embedding_scale", "residual_scale", "logit_scale"}
"""Keys that Granite's models have; for others they are unknown."""
_APPLIED = {
    *numpy_experts.APPLIED,
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
}
_TOP = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"}
_LAYER = {f"{name}.weight" for name in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output")}
_LAYER |= {f"{name}.weight" for name in ("ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "attn_q_norm", "attn_k_norm")}
_LAYER |= {f"{name}.bias" for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
_HEAD_ROWS = 16384
"""Rows of the output head that are dequantised at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes and constants of a model."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    rotated: int
    """How many values of a head are rotated."""
    pairs: str
    inverse_frequencies: Array
    """Of each pair, with the file's factors and scaling."""
    experts: Experts | None
    attention_scale: float
    embedding_scale: float
    residual_scale: float
    logit_divisor: float


def agreements(weights: GgufWeights, answers: Sequence[Answer], report: Callable[[float], None]) -> list[list[bool]]:
    """For each token of each answer: whether it is the most probable one, up to near ties, after those before it.

    Raises NoReferenceError for a model that this module does not know completely.
    """
    shape = _shape(weights)
    lengths = [len(answer.fed) for answer in answers]
    bounds = np.cumsum([0, *lengths])
    hidden = weights.rows("token_embd.weight", [token for answer in answers for token in answer.fed])
    hidden = hidden * np.float32(shape.embedding_scale)
    spans = [slice(begin, end) for begin, end in pairwise(bounds)]
    for layer in range(shape.layers):
        hidden = _run_layer(weights, f"blk.{layer}.", shape, hidden, spans)
        report((layer + 1) / (shape.layers + 1))
    rows = np.concatenate([hidden[span][answer.rows] for span, answer in zip(spans, answers, strict=True)])
    final = _norm(rows, weights["output_norm.weight"], shape.epsilon) / np.float32(shape.logit_divisor)
    tokens = np.array([token for answer in answers for token in answer.output])
    near = iter((_logits_of(weights, final, tokens) >= _highest(weights, final) - NEAR_TIE).tolist())
    return [[next(near) for _ in answer.output] for answer in answers]


def _shape(weights: GgufWeights) -> Shape:
    keys = weights.hyperparameters
    pairs = ARCHITECTURES.get(weights.architecture)
    if pairs is None:
        raise NoReferenceError(f"there is no reference for the architecture {weights.architecture!r}")
    layers = int(keys["block_count"])
    applied = _APPLIED | (_SCALES if weights.architecture.startswith("granite") else set())
    experts = read_experts(weights.architecture, keys)
    named = _LAYER | numpy_experts.TENSORS if experts else _LAYER
    known = _TOP | {f"blk.{layer}.{name}" for layer in range(layers) for name in named}
    if strange := sorted(weights.names - known) + sorted(keys.keys() - applied - _WITHOUT_EFFECT):
        raise NoReferenceError(f"the reference does not know {strange[0]}")
    if strange := sorted(name for name, value in keys.items() if isinstance(value, ArrayFacts)):
        raise NoReferenceError(f"the reference does not know {strange[0]} with a value for each layer")
    heads = int(keys["attention.head_count"])
    size = int(keys.get("attention.key_length", keys["embedding_length"] // heads))
    rotated = int(keys.get("rope.dimension_count", size))
    if int(keys.get("attention.value_length", size)) != size:
        raise NoReferenceError("the reference does not know values of another size than keys")
    return Shape(
        layers=layers,
        heads=heads,
        kv_heads=int(keys.get("attention.head_count_kv", heads)),
        head_size=size,
        epsilon=float(keys["attention.layer_norm_rms_epsilon"]),
        rotated=rotated,
        pairs=pairs,
        inverse_frequencies=_frequencies(weights, keys, rotated),
        experts=experts,
        attention_scale=float(keys.get("attention.scale", 0.0)) or size**-0.5,
        embedding_scale=float(keys.get("embedding_scale", 0.0)) or 1.0,
        residual_scale=float(keys.get("residual_scale", 0.0)) or 1.0,
        logit_divisor=float(keys.get("logit_scale", 0.0)) or 1.0,
    )


def _frequencies(weights: GgufWeights, keys: Mapping[str, object], rotated: int) -> Array:
    base = float(str(keys.get("rope.freq_base", 10000.0)))
    inverse = base ** (-np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    factors = weights.get("rope_freqs.weight")
    if factors is not None:
        inverse /= factors
    kind, factor = keys.get("rope.scaling.type", "linear"), float(str(keys.get("rope.scaling.factor", 1.0)))
    if factor != 1.0 and kind != "linear":
        raise NoReferenceError(f"the reference does not know rope.scaling.type {kind!r}")
    inverse /= factor or 1.0  # llama.cpp reads 0 as none
    return np.asarray(inverse, np.float32)


def _run_layer(weights: GgufWeights, at: str, shape: Shape, hidden: Array, spans: Sequence[slice]) -> Array:
    normed = _norm(hidden, weights[f"{at}attn_norm.weight"], shape.epsilon)
    q, k, v = (_heads(weights, at, name, normed, shape) for name in ("attn_q", "attn_k", "attn_v"))
    mixed = np.concatenate([_attend(q[span], k[span], v[span], shape) for span in spans])
    scale = np.float32(shape.residual_scale)
    hidden = hidden + scale * _linear(weights, f"{at}attn_output", mixed.reshape(len(hidden), -1))
    normed = _norm(hidden, weights[f"{at}ffn_norm.weight"], shape.epsilon)
    if shape.experts:
        return hidden + scale * run_experts(weights, at, shape.experts, normed)
    gate, up, down = (weights[f"{at}ffn_{name}.weight"] for name in ("gate", "up", "down"))
    return hidden + scale * gated(normed, gate, up, down)


def _heads(weights: GgufWeights, at: str, name: str, normed: Array, shape: Shape) -> Array:
    """Queries, keys or values, [tokens, heads, head_size]; queries and keys are not rotated yet."""
    values = _linear(weights, at + name, normed)
    norm = weights.get(f"{at}{name}_norm.weight")
    if norm is not None and len(norm) == values.shape[-1]:  # one norm for all heads at once
        values, norm = _norm(values, norm, shape.epsilon), None
    values = values.reshape(len(normed), -1, shape.head_size)
    return values if norm is None else _norm(values, norm, shape.epsilon)


def _attend(q: Array, k: Array, v: Array, shape: Shape) -> Array:
    """Causal attention within one sequence."""
    q, k = _rotate(q, shape), _rotate(k, shape)
    group = shape.heads // shape.kv_heads
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("nhd,mhd->hnm", q, k, optimize=True) * np.float32(shape.attention_scale)
    scores += np.triu(np.full(scores.shape[1:], -np.inf, np.float32), 1)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hnm,mhd->nhd", scores, v, optimize=True), np.float32)


def _rotate(values: Array, shape: Shape) -> Array:
    angles = np.arange(len(values), dtype=np.float32)[:, None, None] * shape.inverse_frequencies
    half, count = shape.rotated // 2, shape.rotated
    halves, interleaved = (slice(0, half), slice(half, count)), (slice(0, count, 2), slice(1, count, 2))
    one, other = halves if shape.pairs == HALVES else interleaved
    x, y, rotated = values[..., one], values[..., other], values.copy()
    rotated[..., one] = x * np.cos(angles) - y * np.sin(angles)
    rotated[..., other] = x * np.sin(angles) + y * np.cos(angles)
    return rotated


def _linear(weights: GgufWeights, name: str, values: Array) -> Array:
    result = values @ weights[f"{name}.weight"].T
    bias = weights.get(f"{name}.bias")
    return np.asarray(result if bias is None else result + bias, np.float32)


def _norm(values: Array, weight: Array, epsilon: float) -> Array:
    return np.asarray(values / np.sqrt((values**2).mean(-1, keepdims=True) + epsilon) * weight, np.float32)


def _head(weights: GgufWeights) -> str:
    return "output.weight" if "output.weight" in weights.names else "token_embd.weight"


def _logits_of(weights: GgufWeights, final: Array, tokens: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Array:
    return np.asarray((final * weights.rows(_head(weights), tokens.tolist())).sum(-1), np.float32)


def _highest(weights: GgufWeights, final: Array) -> Array:
    return np.max([(final @ rows.T).max(-1) for rows in _pieces(weights)], axis=0)  # type: ignore[no-any-return]


def _pieces(weights: GgufWeights) -> Iterator[Array]:
    name = _head(weights)
    for begin in range(0, weights.row_count(name), _HEAD_ROWS):
        yield weights.rows(name, slice(begin, begin + _HEAD_ROWS))
