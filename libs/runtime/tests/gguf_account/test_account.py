"""The account of a GGUF file: what is applied, what is without effect, and that everything else is refused by name."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument
from infermesh_runtime.gguf_account.account import Account, make_account
from infermesh_runtime.gguf_account.architectures import ARCHITECTURES
from infermesh_runtime.gguf_account.contents import GgufContents, StoredTensor
from infermesh_runtime.gguf_account.rope import frequencies

Keys = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]

HIDDEN, HEADS, KV_HEADS, HEAD, MLP, VOCABULARY = 64, 4, 2, 16, 96, 50


def contents(keys: Keys | None = None, shapes: Shapes | None = None) -> GgufContents:
    """A Llama file of one layer, with keys and shapes laid over it; None leaves one out."""
    block = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HEADS * HEAD, HIDDEN),
        "attn_k": (KV_HEADS * HEAD, HIDDEN),
        "attn_v": (KV_HEADS * HEAD, HIDDEN),
        "attn_output": (HIDDEN, HEADS * HEAD),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (MLP, HIDDEN),
        "ffn_up": (MLP, HIDDEN),
        "ffn_down": (HIDDEN, MLP),
    }
    tensors: dict[str, tuple[int, ...]] = {f"blk.0.{name}.weight": shape for name, shape in block.items()}
    tensors |= {"token_embd.weight": (VOCABULARY, HIDDEN), "output_norm.weight": (HIDDEN,), **(shapes or {})}
    stored = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a"] * VOCABULARY,
        "llama.context_length": 512,
        "llama.embedding_length": HIDDEN,
        "llama.block_count": 1,
        "llama.feed_forward_length": MLP,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        **(keys or {}),
    }
    return GgufContents(
        {name: value for name, value in stored.items() if value is not None},
        {name: StoredTensor(shape, "F16") for name, shape in tensors.items() if shape},
    )


def refusal(keys: Keys | None = None, shapes: Shapes | None = None) -> InfermeshError:
    with pytest.raises(InfermeshError) as raised:
        make_account(contents(keys, shapes))
    return raised.value


def account(keys: Keys | None = None, shapes: Shapes | None = None) -> Account:
    return make_account(contents(keys, shapes))


def test_every_key_of_a_file_is_accounted_for() -> None:
    made, given = account({"llama.nextn_predict_layers": 0, "llama.vocab_size": VOCABULARY}), contents().keys
    assert made.applied | made.without_effect >= set(given)
    assert not made.applied & made.without_effect
    assert {"llama.nextn_predict_layers", "llama.vocab_size", "general.name"} <= made.without_effect
    assert made.spec.head.tensor == "token_embd.weight"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.attention.something_new", 3),
        ("llama.rope.scaling.yarn_log_multiplier", 0.1),
        ("llama.attention.clamp_kqv", 8.0),
        ("llama.attention.causal", False),
        ("llama.expert_shared_feed_forward_length", 8),
        ("llama.logit_scale", 0.5),
        ("llama.rope.scaling.type", "dynamic"),
        ("llama.rope.dimension_count", 17),
        ("llama.rope.freq_base", 0.0),
        ("llama.rope.scaling.factor", -2.0),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.head_count_kv", [2, 1]),
        ("llama.attention.layer_norm_rms_epsilon", float("nan")),
        ("llama.block_count", "one"),
        ("llama.attention.sliding_window_pattern", [True, True]),
        ("llama.final_logit_softcapping", -1.0),
        ("tokenizer.ggml.something_new", 1),
        ("adapter.type", "lora"),
        ("general.type", "mmproj"),
        ("mystery", 1),
    ],
)
def test_a_key_that_we_do_not_know_or_cannot_apply_is_named(key: str, value: Any) -> None:
    error = refusal({key: value})
    assert isinstance(error, InvalidArgument)
    assert key in error.message
    assert key in error.fields


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_q_norm.weight", (HEAD,)),
        ("blk.0.ffn_gate_inp.weight", (8, HIDDEN)),
        ("blk.1.attn_q.weight", (HEADS * HEAD, HIDDEN)),
        ("blk.0.attn_q.scale", (1,)),
        ("output.extra", (1,)),
        ("blk.0.attn_q.weight", (HIDDEN, HIDDEN, 1)),
        ("blk.0.ffn_down.weight", (MLP, HIDDEN)),
        ("rope_freqs.weight", (HEAD,)),
        ("blk.0.ffn_norm.weight", ()),
        ("output_norm.weight", ()),
    ],
)
def test_a_tensor_that_is_unknown_missing_or_of_another_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    error = refusal(shapes={name: shape})
    assert isinstance(error, InvalidArgument)
    assert name in error.message
    assert name in error.fields


def test_other_architectures_are_refused_by_name() -> None:
    error = refusal({"general.architecture": "mamba"})
    assert isinstance(error, FailedPrecondition)
    assert "'mamba'" in error.message
    assert all(name in error.message for name in ARCHITECTURES)


def test_a_shard_is_refused_with_its_number() -> None:
    assert "shard 1 of 2" in refusal({"split.no": 0, "split.count": 2}).message


def test_more_tokens_than_embeddings_are_refused() -> None:
    assert "51 tokens" in refusal({"tokenizer.ggml.tokens": ["a"] * 51}).message


def test_rope_factors_divide_frequencies_and_scaling_multiplies_positions() -> None:
    made = account(
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, {"rope_freqs.weight": (HEAD // 2,)}
    )
    rope = made.spec.layers[0].rope
    assert rope is not None
    assert rope.factors == "rope_freqs.weight"
    angles, magnitude = frequencies(rope, [2.0] * (HEAD // 2))
    assert angles == pytest.approx([10000.0 ** (-2 * pair / HEAD) / 8 for pair in range(HEAD // 2)])
    assert magnitude == 1.0


def test_the_context_decides_between_long_and_short_factors() -> None:
    both = {"rope_factors_long.weight": (HEAD // 2,), "rope_factors_short.weight": (HEAD // 2,)}
    for original, expected in ((256, "rope_factors_long.weight"), (512, "rope_factors_short.weight")):
        rope = account({"llama.rope.scaling.original_context_length": original}, both).spec.layers[0].rope
        assert rope is not None
        assert rope.factors == expected


def test_a_factor_that_is_not_positive_is_refused() -> None:
    rope = account(shapes={"rope_freqs.weight": (HEAD // 2,)}).spec.layers[0].rope
    assert rope is not None
    with pytest.raises(InvalidArgument, match=re.escape("rope_freqs.weight")):
        frequencies(rope, [0.0] * (HEAD // 2))
