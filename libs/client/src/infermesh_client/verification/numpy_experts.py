"""Computes a layer's mixture of experts in numpy, dequantising one expert at a time, and only those that are chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infermesh_client.verification.comparison import NoReferenceError
from infermesh_client.verification.gguf_weights import Array, GgufWeights

ALWAYS = frozenset(("qwen2moe", "qwen3moe", "olmoe", "granitemoe"))
"""Architectures whose layers always have experts; others have them if expert_count says so."""
_NOT_NORMALISED = ("qwen2moe", "olmoe")
APPLIED = frozenset(
    ("expert_count", "expert_used_count", "expert_gating_func", "expert_weights_norm", "expert_weights_scale")
)
WITHOUT_EFFECT = frozenset(("expert_feed_forward_length", "expert_shared_feed_forward_length", "expert_shared_count"))
"""Keys that say only what the tensors' shapes say as well."""
TENSORS = frozenset(
    f"ffn_{name}.weight"
    for name in (
        *("gate_inp", "gate_exps", "up_exps", "gate_up_exps", "down_exps"),
        *("gate_inp_shexp", "gate_shexp", "up_shexp", "down_shexp"),
    )
)
_SOFTMAX_OF_CHOSEN = 3


@dataclass(frozen=True, slots=True)
class Experts:
    """How the tokens of every layer choose experts."""

    count: int
    used: int
    normalised: bool
    scale: float


def read_experts(architecture: str, keys: Mapping[str, Any]) -> Experts | None:
    """None for a model without experts. Raises NoReferenceError for what is not known here."""
    count = int(keys.get("expert_count", 0))
    if not count and architecture not in ALWAYS:
        return None
    gating = int(keys.get("expert_gating_func", 1))
    if gating not in (0, 1, _SOFTMAX_OF_CHOSEN):
        raise NoReferenceError(f"the reference does not know expert_gating_func {gating}")
    normalised = bool(keys.get("expert_weights_norm", architecture not in _NOT_NORMALISED))
    return Experts(
        count=count,
        used=int(keys["expert_used_count"]),
        normalised=normalised or gating == _SOFTMAX_OF_CHOSEN,
        scale=float(keys.get("expert_weights_scale", 0.0)) or 1.0,
    )


def run_experts(weights: GgufWeights, at: str, experts: Experts, normed: Array) -> Array:
    """What the experts of the layer whose tensors begin with `at` add to the residual, [tokens, hidden]."""
    scores = normed @ weights[f"{at}ffn_gate_inp.weight"].T
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities = odds / odds.sum(-1, keepdims=True)
    chosen = np.argsort(-probabilities, -1, kind="stable")[:, : experts.used]
    shares = np.take_along_axis(probabilities, chosen, -1)
    if experts.normalised:
        shares = shares / shares.sum(-1, keepdims=True)
    result = np.zeros_like(normed)
    for expert in np.unique(chosen):
        tokens, places = np.nonzero(chosen == expert)
        gate, up, down = _matrices(weights, at, experts.count, int(expert))
        share = shares[tokens, places, None] * np.float32(experts.scale)
        result[tokens] += share * gated(normed[tokens], gate, up, down)
    if f"{at}ffn_up_shexp.weight" in weights.names:
        result += _shared(weights, at, normed)
    return result


def gated(values: Array, gate: Array, up: Array, down: Array) -> Array:
    """An MLP whose gate goes through SiLU."""
    gates = values @ gate.T
    return np.asarray((gates / (1 + np.exp(-np.clip(gates, -80, None))) * (values @ up.T)) @ down.T, np.float32)


def _matrices(weights: GgufWeights, at: str, count: int, expert: int) -> tuple[Array, Array, Array]:
    def matrix(name: str) -> Array:
        rows = weights.row_count(f"{at}ffn_{name}.weight") // count
        return weights.rows(f"{at}ffn_{name}.weight", slice(expert * rows, (expert + 1) * rows))

    if f"{at}ffn_gate_up_exps.weight" in weights.names:
        gate, up = np.split(matrix("gate_up_exps"), 2)
        return gate, up, matrix("down_exps")
    return matrix("gate_exps"), matrix("up_exps"), matrix("down_exps")


def _shared(weights: GgufWeights, at: str, normed: Array) -> Array:
    gate, up, down = (weights[f"{at}ffn_{name}_shexp.weight"] for name in ("gate", "up", "down"))
    output = gated(normed, gate, up, down)
    share = weights.get(f"{at}ffn_gate_inp_shexp.weight")
    return output if share is None else np.asarray(output / (1 + np.exp(-(normed @ share.reshape(-1, 1)))), np.float32)
