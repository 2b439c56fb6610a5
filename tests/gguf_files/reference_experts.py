"""A mixture of experts in numpy, in float64 and one token at a time: what the graphs must compute."""

import math

import numpy as np
from numpy.typing import NDArray

from tests.gguf_files.recipes import EXPERT_MLP, Recipe, Weights

Array = NDArray[np.float64]


def mixture(recipe: Recipe, weights: Weights, index: int, node: Array) -> Array:
    """What the experts of a layer add to the residual, [tokens, hidden]."""

    def stored(name: str) -> Array:
        return weights[f"blk.{index}.{name}.weight"]

    if recipe.fused_experts:
        gates, ups = np.split(stored("ffn_gate_up_exps"), [EXPERT_MLP], axis=1)
    else:
        gates, ups = stored("ffn_gate_exps"), stored("ffn_up_exps")
    scores = node @ stored("ffn_gate_inp").T
    probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    change = np.zeros_like(node)
    for token, inputs in enumerate(node):
        chosen = np.argsort(-scores[token])[: recipe.experts_used]
        shares = probabilities[token][chosen]
        if recipe.experts_normalised:
            shares = shares / shares.sum()
        for expert, share in zip(chosen, shares * recipe.experts_scale, strict=True):
            widened = activated(recipe, gates[expert] @ inputs) * (ups[expert] @ inputs)
            change[token] += share * (stored("ffn_down_exps")[expert] @ widened)
    if recipe.shared_mlp:
        gate, up, down = (stored(f"ffn_{name}_shexp") for name in ("gate", "up", "down"))
        always = (activated(recipe, node @ gate.T) * (node @ up.T)) @ down.T
        if recipe.shared_gated:
            always = always / (1 + np.exp(-(node @ stored("ffn_gate_inp_shexp")[:, None])))
        change = change + always
    return change


def activated(recipe: Recipe, gate: Array) -> Array:
    """The activation of an MLP's gate."""
    if recipe.activation == "silu":
        active: Array = gate / (1 + np.exp(-gate))
    else:
        active = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    return active
