"""The account of mixtures of experts: what their keys mean, and that what cannot be applied is refused by name."""

from collections.abc import Mapping
from typing import Any

import pytest

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.gguf_account.account import make_account
from infermesh_runtime.gguf_account.contents import GgufContents, StoredTensor
from infermesh_runtime.gguf_account.spec import ExpertsSpec, LayerSpec

Keys = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
HIDDEN, HEADS, MLP, EXPERT, EXPERTS, VOCABULARY = 64, 4, 96, 32, 8, 50
SHARED = {"ffn_gate_shexp": (48, HIDDEN), "ffn_up_shexp": (48, HIDDEN), "ffn_down_shexp": (HIDDEN, 48)}
QWEN = {"ffn_gate_inp_shexp": (HIDDEN,), **SHARED}


def contents(architecture: str, keys: Keys, shapes: Shapes) -> GgufContents:
    """A file of one layer with experts, with keys and shapes laid over it; None or () leaves one out."""
    block: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("attn_norm", "ffn_norm"), (HIDDEN,)),
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (HIDDEN, HIDDEN)),
        "ffn_gate_inp": (EXPERTS, HIDDEN),
        **dict.fromkeys(("ffn_gate_exps", "ffn_up_exps"), (EXPERTS, EXPERT, HIDDEN)),
        "ffn_down_exps": (EXPERTS, HIDDEN, EXPERT),
        **shapes,
    }
    tensors = {f"blk.0.{name}.weight": shape for name, shape in block.items()}
    tensors |= {"token_embd.weight": (VOCABULARY, HIDDEN), "output_norm.weight": (HIDDEN,)}
    section = {
        "context_length": 512,
        "embedding_length": HIDDEN,
        "block_count": 1,
        "feed_forward_length": MLP,
        "attention.head_count": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "expert_count": EXPERTS,
        "expert_used_count": 3,
        "expert_feed_forward_length": EXPERT,
        **keys,
    }
    stored = {f"{architecture}.{name}": value for name, value in section.items() if value is not None}
    return GgufContents(
        {"general.architecture": architecture, **stored},
        {name: StoredTensor(shape, "F16") for name, shape in tensors.items() if shape},
    )


def layer(architecture: str = "llama", keys: Keys | None = None, shapes: Shapes | None = None) -> LayerSpec:
    return make_account(contents(architecture, keys or {}, shapes or {})).spec.layers[0]


def mixture(architecture: str = "llama", keys: Keys | None = None, shapes: Shapes | None = None) -> ExpertsSpec:
    made = layer(architecture, keys, shapes).experts
    assert made is not None
    return made


def test_a_layer_says_how_many_experts_there_are_and_where_their_matrices_lie() -> None:
    made = layer()
    assert (made.gate.tensor, made.gate.rows) == ("blk.0.ffn_gate_exps.weight", EXPERT)
    assert made.experts is not None
    assert (made.experts.count, made.experts.used, made.experts.mlp) == (EXPERTS, 3, EXPERT)
    assert made.experts.router.tensor == "blk.0.ffn_gate_inp.weight"
    assert made.experts.shared is None


def test_gate_and_up_may_be_one_tensor() -> None:
    fused = {"ffn_gate_exps": (), "ffn_up_exps": (), "ffn_gate_up_exps": (EXPERTS, 2 * EXPERT, HIDDEN)}
    made = layer(shapes=fused)
    assert made.gate.tensor == made.up.tensor == "blk.0.ffn_gate_up_exps.weight"
    assert (made.gate.begin, made.up.begin, made.up.rows) == (0, EXPERT, EXPERT)


@pytest.mark.parametrize(
    ("architecture", "shapes", "normalised"),
    [
        ("llama", {}, True),
        ("qwen2moe", QWEN, False),
        ("olmoe", {"attn_q_norm": (HIDDEN,), "attn_k_norm": (HIDDEN,)}, False),
    ],
)
def test_the_architecture_decides_whether_weights_are_normalised_and_the_key_overrides(
    architecture: str, shapes: Shapes, normalised: bool
) -> None:
    keys = {"expert_shared_feed_forward_length": 48} if architecture == "qwen2moe" else {}
    assert mixture(architecture, keys, shapes).normalised == normalised
    said = {**keys, "expert_weights_norm": not normalised, "expert_weights_scale": 2.5}
    assert mixture(architecture, said, shapes).normalised != normalised
    assert mixture(architecture, said, shapes).scale == 2.5
    assert mixture(architecture, {**keys, "expert_gating_func": 3}, shapes).normalised


def test_the_width_of_an_expert_follows_from_the_whole_width_where_the_architecture_says_so() -> None:
    without = {"expert_feed_forward_length": None}
    norms = {"attn_q_norm": (HIDDEN // HEADS,), "attn_k_norm": (HIDDEN // HEADS,)}
    assert mixture("qwen3moe", without, norms).mlp == MLP // 3
    assert mixture("qwen3moe", {"feed_forward_length": None}, norms).mlp == EXPERT
    with pytest.raises(InvalidArgument, match="ffn_gate_exps"):
        layer("llama", without)


def test_the_shared_expert_has_a_share_of_its_own_in_qwen_and_none_in_granite() -> None:
    keys = {"expert_shared_feed_forward_length": 48, "expert_shared_count": 1}
    for stored in ((HIDDEN,), (1, HIDDEN)):
        shared = mixture("qwen2moe", keys, {**QWEN, "ffn_gate_inp_shexp": stored}).shared
        assert shared is not None
        assert shared.share == "blk.0.ffn_gate_inp_shexp.weight"
    plain = mixture("granitemoe", keys, SHARED).shared
    assert plain is not None
    assert plain.share is None
    assert mixture("granitemoe").shared is None


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("llama", "expert_used_count", 9),
        ("llama", "expert_used_count", None),
        ("llama", "expert_gating_func", 2),
        ("llama", "expert_group_count", 2),
        ("llama", "leading_dense_block_count", 1),
        ("llama", "interleave_moe_layer_step", 2),
        ("llama", "expert_shared_feed_forward_length", 48),
        ("llama", "expert_something_new", 1),
        ("qwen3moe", "expert_count", 0),
        ("qwen2", "expert_count", 8),
        ("qwen2", "expert_used_count", 2),
        ("llama", "expert_weights_norm", 1),
    ],
)
def test_a_key_of_experts_that_cannot_be_applied_is_named(architecture: str, key: str, value: Any) -> None:
    dense = dict.fromkeys(("expert_count", "expert_used_count", "expert_feed_forward_length"))
    with pytest.raises(InvalidArgument) as raised:
        layer(architecture, {**(dense if architecture == "qwen2" else {}), key: value})
    assert f"{architecture}.{key}" in raised.value.fields


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ffn_gate_inp", ()),
        ("ffn_gate_exps", (EXPERTS - 1, EXPERT, HIDDEN)),
        ("ffn_down_exps", (EXPERTS, EXPERT, HIDDEN)),
        ("ffn_gate.0", (EXPERT, HIDDEN)),
        ("exp_probs_b", (EXPERTS,)),
        ("ffn_gate", (MLP, HIDDEN)),
        ("ffn_up_shexp", (48, HIDDEN)),
    ],
)
def test_a_tensor_of_experts_that_is_missing_wrong_or_unknown_is_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        layer(shapes={name: shape})
    assert f"blk.0.{name}.weight" in raised.value.fields
