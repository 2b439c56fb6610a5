"""Mixtures of experts: reads their keys, and finds the tensors of their layers.

Facts come from llama.cpp: src/models/*.cpp and `build_moe_ffn`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infermesh_runtime.gguf_account.architectures import Architecture
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.key_reader import KeyReader
from infermesh_runtime.gguf_account.spec import ExpertsSpec, SharedExpertSpec
from infermesh_runtime.gguf_account.tensors import Sizes, TensorFinder

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "interleave_moe_layer_step": (0, 1),
    "leading_dense_block_count": (0,),
    "moe_every_n_layers": (0, 1),
}
"""Keys that may say only what is true of these decoders: every layer has experts, and any of them may be chosen."""
_ONLY_WITH_EXPERTS = (
    "expert_used_count",
    "expert_shared_count",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
)
_SOFTMAX, _SOFTMAX_OF_CHOSEN = 1, 3
"""Values of expert_gating_func; 0 says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertKeys:
    """What the keys say of the experts of every layer."""

    count: int
    used: int
    mlp: int
    """Width of one expert."""
    shared_mlp: int
    """Width of the expert that every token uses; 0: there is none."""
    normalised: bool
    scale: float


def read_experts(reader: KeyReader, rules: Architecture) -> ExpertKeys | None:
    """The keys of experts; None for a decoder without them, whose keys may not say otherwise."""
    for key, values in _NEUTRAL.items():
        reader.neutral(key, values)
    if rules.experts == "never":
        reader.neutral("expert_count", (0,))
    count = 0 if rules.experts == "never" else reader.count("expert_count", 0, least=0)
    if count:
        return _keys(reader, rules, count)
    if rules.experts == "always":
        raise reader.wrong("expert_count", "a whole number of at least 1")
    for key in _ONLY_WITH_EXPERTS:
        reader.neutral(key, (0,))
    return None


def _keys(reader: KeyReader, rules: Architecture, count: int) -> ExpertKeys:
    used = reader.count("expert_used_count")
    if used > count:
        raise reader.wrong("expert_used_count", f"at most the {count} experts")
    gating = reader.count("expert_gating_func", _SOFTMAX, least=0)
    if gating not in (0, _SOFTMAX, _SOFTMAX_OF_CHOSEN):
        raise reader.wrong("expert_gating_func", "1 (softmax) or 3 (softmax of the chosen experts)")
    normalised = reader.flag("expert_weights_norm", default=rules.normalises_experts)
    shared_mlp = _shared_mlp(reader, rules)
    return ExpertKeys(
        count=count,
        used=used,
        mlp=reader.count("expert_feed_forward_length", 0, least=0) or _usual_mlp(reader, rules, used),
        shared_mlp=shared_mlp,
        # a softmax of the chosen experts is the softmax of all, divided by the sum of the chosen
        normalised=normalised or gating == _SOFTMAX_OF_CHOSEN,
        scale=reader.number("expert_weights_scale", 0.0) or 1.0,
    )


def _usual_mlp(reader: KeyReader, rules: Architecture, used: int) -> int:
    mlp = reader.count("feed_forward_length")
    return max(1, mlp // used) if rules.experts_share_mlp else mlp


def _shared_mlp(reader: KeyReader, rules: Architecture) -> int:
    key = "expert_shared_feed_forward_length"
    if rules.shared_expert == "never":
        reader.neutral(key, (0,))
        reader.neutral("expert_shared_count", (0,))
        return 0
    reader.ignore("expert_shared_count")  # the width counts them already
    width = reader.count(key, 0, least=0)
    return width or (reader.count("feed_forward_length") if rules.shared_expert == "gated" else 0)


def find_experts(finder: TensorFinder, block: str, sizes: Sizes, keys: ExpertKeys) -> tuple[Linear, Linear, Linear]:
    """The stacked gate, up and down projections of a layer; the first two may be one tensor."""
    if finder.has(f"{block}.ffn_gate_up_exps.weight"):
        gate, up = finder.stacked(f"{block}.ffn_gate_up_exps", keys.count, (keys.mlp, keys.mlp), sizes.hidden)
    else:
        (gate,) = finder.stacked(f"{block}.ffn_gate_exps", keys.count, (keys.mlp,), sizes.hidden)
        (up,) = finder.stacked(f"{block}.ffn_up_exps", keys.count, (keys.mlp,), sizes.hidden)
    (down,) = finder.stacked(f"{block}.ffn_down_exps", keys.count, (sizes.hidden,), keys.mlp)
    return gate, up, down


def find_routing(finder: TensorFinder, block: str, rules: Architecture, sizes: Sizes, keys: ExpertKeys) -> ExpertsSpec:
    """The router of a layer, and its shared expert."""
    return ExpertsSpec(
        count=keys.count,
        used=keys.used,
        mlp=keys.mlp,
        router=Linear(finder.named(f"{block}.ffn_gate_inp.weight", keys.count, sizes.hidden), 0, keys.count),
        normalised=keys.normalised,
        scale=keys.scale,
        shared=_shared(finder, block, rules, sizes, keys.shared_mlp) if keys.shared_mlp else None,
    )


def _shared(finder: TensorFinder, block: str, rules: Architecture, sizes: Sizes, mlp: int) -> SharedExpertSpec:
    return SharedExpertSpec(
        gate=finder.linear(f"{block}.ffn_gate_shexp", mlp, sizes.hidden),
        up=finder.linear(f"{block}.ffn_up_shexp", mlp, sizes.hidden),
        down=finder.linear(f"{block}.ffn_down_shexp", sizes.hidden, mlp),
        share=finder.row(f"{block}.ffn_gate_inp_shexp.weight", sizes.hidden)
        if rules.shared_expert == "gated"
        else None,
    )
