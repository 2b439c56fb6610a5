"""Makes the account of a GGUF file: the decoder that it describes, and what each of its keys is good for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.gguf_account import tensors
from infermesh_runtime.gguf_account.architectures import ARCHITECTURES, Architecture
from infermesh_runtime.gguf_account.contents import GgufContents
from infermesh_runtime.gguf_account.experts import find_experts, find_routing, read_experts
from infermesh_runtime.gguf_account.key_reader import KeyReader
from infermesh_runtime.gguf_account.other_keys import check_other_keys
from infermesh_runtime.gguf_account.rope import read_rope
from infermesh_runtime.gguf_account.spec import DecoderSpec, LayerSpec, RopeSpec
from infermesh_runtime.gguf_account.tensors import Sizes, TensorFinder

_WITHOUT_EFFECT = ("vocab_size", "tensor_data_layout")
"""The embedding's own rows count; the layout is the one that llama.cpp reads."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
}
"""Keys that may say only what is true of these decoders."""


@dataclass(frozen=True, slots=True)
class Account:
    """Every key of the file is in one of the two sets, and every tensor is used by `spec`."""

    spec: DecoderSpec
    applied: frozenset[str]
    without_effect: frozenset[str]


def make_account(contents: GgufContents) -> Account:
    """Accounts for every key and tensor.

    Raises FailedPrecondition for an architecture that is not in ARCHITECTURES, and InvalidArgument, naming the key or
    tensor, for one that is unknown, missing or wrong.
    """
    name = contents.keys.get("general.architecture")
    rules = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if rules is None or not isinstance(name, str):
        raise FailedPrecondition(
            f"GGUF files of the architecture {name!r} are not supported; supported are {', '.join(ARCHITECTURES)}",
            reason="MODEL_NOT_SUPPORTED",
        )
    other = check_other_keys(contents.keys, name)
    reader, finder = KeyReader(contents.keys, name), TensorFinder(contents.tensors)
    for key, values in _NEUTRAL.items():
        reader.neutral(key, values)
    for key in _WITHOUT_EFFECT:
        reader.ignore(key)
    spec = _decoder(name, rules, reader, finder, contents)
    reader.refuse_unread()
    finder.refuse_unused()
    return Account(spec, frozenset(reader.applied), frozenset(reader.without_effect | other))


def _decoder(
    name: str, rules: Architecture, reader: KeyReader, finder: TensorFinder, contents: GgufContents
) -> DecoderSpec:
    context = reader.count("context_length")
    sizes, ropes = _sizes(reader, rules, contents, context)
    vocabulary = _vocabulary(finder, contents)
    embedding = finder.named("token_embd.weight", vocabulary, sizes.hidden)
    head = "output" if finder.has("output.weight") else "token_embd"
    tensors.rope_tensors(finder, rules, sizes)
    return DecoderSpec(
        architecture=name,
        context_length=context,
        vocabulary=vocabulary,
        hidden=sizes.hidden,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_size=sizes.head_size,
        norm_epsilon=reader.number("attention.layer_norm_rms_epsilon"),
        activation=rules.activation,
        attention_scale=_attention_scale(reader, rules, sizes),
        attention_soft_cap=_soft_cap(reader, "attn_logit_softcapping", rules.attention_soft_cap),
        final_soft_cap=_soft_cap(reader, "final_logit_softcapping", rules.final_soft_cap),
        embedding_scale=reader.number("embedding_scale", 0.0) or _embedding_scale(rules, sizes),
        residual_scale=reader.number("residual_scale", 0.0) or 1.0,
        logit_scale=_logit_scale(reader, rules),
        norms_whole_heads=rules.qk_norm == "whole",
        layers=_layers(rules, reader, finder, sizes, ropes),
        embedding=embedding,
        final_norm=finder.named("output_norm.weight", sizes.hidden),
        head=finder.linear(head, vocabulary, sizes.hidden),
    )


def _sizes(
    reader: KeyReader, rules: Architecture, contents: GgufContents, context: int
) -> tuple[Sizes, tuple[RopeSpec, RopeSpec]]:
    hidden, heads = reader.count("embedding_length"), reader.count("attention.head_count")
    kv_heads = reader.count("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise reader.wrong("attention.head_count_kv", f"a divisor of the {heads} heads")
    if hidden % heads and not reader.has("attention.key_length"):
        raise reader.wrong("attention.head_count", f"a divisor of the embedding length {hidden}")
    head_size = reader.count("attention.key_length", hidden // heads)
    if reader.count("attention.value_length", head_size) != head_size:
        raise reader.wrong("attention.value_length", f"the length of keys, {head_size}")
    ropes = read_rope(reader, rules, contents.tensors, head_size, context)
    sizes = Sizes(
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        mlp=_mlp(reader, rules),
        rope_dimensions=ropes[0].dimensions,
    )
    return sizes, ropes


def _mlp(reader: KeyReader, rules: Architecture) -> int:
    """The width of MLPs; layers that always have experts need none, if the file says how wide an expert is."""
    always = rules.experts == "always"
    return reader.count("feed_forward_length", 0 if always else None, least=0 if always else 1)


def _vocabulary(finder: TensorFinder, contents: GgufContents) -> int:
    rows, tokens = finder.rows("token_embd.weight"), contents.keys.get("tokenizer.ggml.tokens", ())
    if rows and len(tokens) > rows:
        raise InvalidArgument(
            f"this GGUF file has {len(tokens)} tokens, but its token_embd.weight has only {rows} rows",
            fields={"token_embd.weight": "has fewer rows than there are tokens"},
        )
    return rows


def _layers(
    rules: Architecture, reader: KeyReader, finder: TensorFinder, sizes: Sizes, ropes: tuple[RopeSpec, RopeSpec]
) -> tuple[LayerSpec, ...]:
    count = reader.count("block_count")
    windows = _windows(reader, rules, count)
    experts = read_experts(reader, rules)
    finetuned = reader.flag("rope.scaling.finetuned", default=True) or not rules.optional_rope
    layers = []
    for index in range(count):
        block = f"blk.{index}"
        rotates = finetuned and not (rules.no_rope_period and (index + 1) % rules.no_rope_period == 0)
        query, key, value, output = tensors.attention(finder, block, sizes)
        gate, up, down = (
            find_experts(finder, block, sizes, experts) if experts else tensors.mlp(finder, block, rules, sizes)
        )
        layers.append(
            LayerSpec(
                rope=(ropes[1] if windows[index] else ropes[0]) if rotates else None,
                window=windows[index],
                query=query,
                key=key,
                value=value,
                output=output,
                gate=gate,
                up=up,
                down=down,
                experts=find_routing(finder, block, rules, sizes, experts) if experts else None,
                **tensors.norms(finder, block, rules, sizes),
            )
        )
    return tuple(layers)


def _windows(reader: KeyReader, rules: Architecture, layers: int) -> list[int]:
    """The window of each layer, from its length and the pattern: a period, or true for each layer that has one."""
    window = reader.count("attention.sliding_window", rules.default_window, least=0)
    pattern = reader.value("attention.sliding_window_pattern", rules.window_period)
    if isinstance(pattern, list | tuple) and len(pattern) == layers and all(isinstance(p, bool) for p in pattern):
        return [window if local else 0 for local in pattern]
    if isinstance(pattern, bool) or not isinstance(pattern, int) or pattern < 0:
        raise reader.wrong("attention.sliding_window_pattern", f"a period, or {layers} times true or false")
    return [0 if pattern and (index + 1) % pattern == 0 else window for index in range(layers)]


def _attention_scale(reader: KeyReader, rules: Architecture, sizes: Sizes) -> float:
    large = rules.large_layers and reader.count("block_count") == rules.large_layers
    usual = 1.0 / math.sqrt(sizes.hidden / sizes.heads if large else sizes.head_size)
    return reader.number("attention.scale", 0.0) or usual


def _embedding_scale(rules: Architecture, sizes: Sizes) -> float:
    return math.sqrt(sizes.hidden) if rules.scales_embedding else 1.0


def _soft_cap(reader: KeyReader, name: str, default: float) -> float:
    value = reader.number(name, default)
    if value < 0:
        raise reader.wrong(name, "a number of at least 0")
    return value


def _logit_scale(reader: KeyReader, rules: Architecture) -> float:
    value = reader.number("logit_scale", 0.0) or 1.0
    if value != 1.0 and not rules.divides_logits:
        raise reader.wrong("logit_scale", "1: in this architecture, infermesh does not know how to apply it")
    return 1.0 / value
