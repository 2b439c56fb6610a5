"""Tiny Llamas that differ as real models do, each written as one GGUF file, and what computes in numpy what they say.

Two layers of random weights from a fixed seed: what they say is nonsense, but which token follows is exact. Their
tokenizer has one token for each byte, and the control tokens of ChatML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType as Type
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

from tests.gguf_files.recipes import add_key, finish

HIDDEN, LAYERS, HEADS, KV_HEADS, MLP, CONTEXT = 64, 2, 4, 2, 128, 512
HEAD = HIDDEN // HEADS
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENS = (*CONTROL, *sorted(ByteLevel.alphabet()), "he", "ll", "hell")
IDS = [int(token) for token in np.random.default_rng(3).integers(len(CONTROL), len(TOKENS), 300)]
"""A prompt long enough for wrong rope to matter."""
FACTORS = np.concatenate([np.ones(HEAD // 4, np.float32), np.full(HEAD // 4, 8, np.float32)])
Array = NDArray[np.float64]

SIMPLE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content if p.type == 'text' %}{{ p.text }}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
TOOLS_NONE = "{% if tools is not none %}TOOLS {{ tools | tojson }}\n{% endif %}" + SIMPLE
DEVELOPERS = (
    "{# thanks to the developers #}{% for m in messages %}{% if m.role == 'system' or m.role == 'user' %}"
    "{{ m.role + ': ' + m.content + '\n' }}{% endif %}{% endfor %}"
)
BROKEN = "{% for m in messages %}{{ m.content }"


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """What is laid over the plain model; `factors` and `scale` say the same to the reference."""

    template: str = SIMPLE
    keys: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    shard: int | None = None
    """Its number, if it says that it is one of two shards."""
    factors: NDArray[np.float32] | None = None
    """Divisors of the angles of rope."""
    scale: float = 1.0
    """Of positions in rope."""


MODELS: Mapping[str, TinyModel] = {
    "plain": TinyModel(),
    # llama.cpp's converter writes this tensor for every Llama 3.1 to 3.3
    "rope_freqs": TinyModel(tensors={"rope_freqs.weight": FACTORS}, factors=FACTORS),
    "rope_linear": TinyModel(keys={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, scale=0.25),
    "template_parts": TinyModel(template=PARTS),
    "template_tools_none": TinyModel(template=TOOLS_NONE),
    "template_developers": TinyModel(template=DEVELOPERS),
    "template_broken": TinyModel(template=BROKEN),
    "split_1_of_2": TinyModel(shard=0),
    "nan_weight": TinyModel(tensors={"blk.1.ffn_norm.weight": np.full(HIDDEN, np.nan, np.float32)}),
}


def write_model(path: Path, model: TinyModel) -> Path:
    """Writes the file: matrices in F16, the rest in F32."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in {**_keys(model.template), **model.keys}.items():
        add_key(writer, name, value)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.NORMAL] * len(TOKENS[3:]))
    if model.shard is not None:
        writer.add_key_value("split.no", model.shard, Type.UINT16)
        writer.add_key_value("split.count", 2, Type.UINT16)
    for name, weight in {**_tensors(), **model.tensors}.items():
        writer.add_tensor(name, weight)
    finish(writer)
    return path


def most_probable(path: Path, ids: Sequence[int], model: TinyModel) -> list[tuple[int, float]]:
    """The four most probable tokens after `ids` and their log probabilities, in float64 (rope turns pairs of
    neighbours, as GGUF stores them)."""
    weights = {tensor.name: np.array(tensor.data, np.float64) for tensor in gguf.GGUFReader(path).tensors}
    inverse = 10000.0 ** (-np.arange(0, HEAD, 2) / HEAD) / (1.0 if model.factors is None else model.factors)
    turn = np.exp(1j * (np.arange(len(ids)) * model.scale)[:, None] * inverse)[:, None]
    x = weights["token_embd.weight"][list(ids)]
    for layer in range(LAYERS):
        own = {name.split(".")[2]: weight for name, weight in weights.items() if name.startswith(f"blk.{layer}.")}
        x = _mlp(_attention(x, own, turn), own)
    logits = weights["token_embd.weight"] @ _norm(x[-1], weights["output_norm.weight"])
    log_probabilities = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    return [(int(token), float(log_probabilities[token])) for token in np.argsort(-log_probabilities)[:4]]


def _keys(template: str) -> dict[str, Any]:
    return {
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": MLP,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": HEAD,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": len(TOKENS),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": list(TOKENS),
        "tokenizer.ggml.merges": ["h e", "l l", "he ll"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": template,
    }


def _tensors() -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 0.3) -> NDArray[np.float16]:
        return (chance.standard_normal(shape) * scale).astype(np.float16)

    ones = np.ones(HIDDEN, np.float32)
    made: dict[str, NDArray[Any]] = {
        "token_embd.weight": normal(len(TOKENS), HIDDEN, scale=1.0),
        "output_norm.weight": ones,
    }
    for layer in range(LAYERS):
        weights: dict[str, NDArray[Any]] = {
            "attn_norm": ones,
            "ffn_norm": ones,
            "attn_q": normal(HIDDEN, HIDDEN),
            "attn_k": normal(KV_HEADS * HEAD, HIDDEN),
            "attn_v": normal(KV_HEADS * HEAD, HIDDEN),
            "attn_output": normal(HIDDEN, HIDDEN),
            "ffn_gate": normal(MLP, HIDDEN),
            "ffn_up": normal(MLP, HIDDEN),
            "ffn_down": normal(HIDDEN, MLP),
        }
        made |= {f"blk.{layer}.{name}.weight": weight for name, weight in weights.items()}
    return made


def _attention(x: Array, weights: Mapping[str, Array], turn: NDArray[np.complex128]) -> Array:
    def heads(name: str, *, turned: bool) -> Array:
        part = (_norm(x, weights["attn_norm"]) @ weights[name].T).reshape(len(x), -1, HEAD)
        if turned:
            pairs = (part[..., 0::2] + 1j * part[..., 1::2]) * turn
            part = np.stack([pairs.real, pairs.imag], -1).reshape(part.shape)
        return np.repeat(part, HEADS // part.shape[1], 1)

    query, key, value = heads("attn_q", turned=True), heads("attn_k", turned=True), heads("attn_v", turned=False)
    future = np.triu(np.full((len(x), len(x)), -np.inf), 1)
    scores = np.einsum("nhd,mhd->hnm", query, key) / np.sqrt(HEAD) + future
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("hnm,mhd->nhd", scores / scores.sum(-1, keepdims=True), value).reshape(len(x), HIDDEN)
    added: Array = x + mixed @ weights["attn_output"].T
    return added


def _mlp(x: Array, weights: Mapping[str, Array]) -> Array:
    node = _norm(x, weights["ffn_norm"])
    gate = node @ weights["ffn_gate"].T
    added: Array = x + ((gate / (1 + np.exp(-gate))) * (node @ weights["ffn_up"].T)) @ weights["ffn_down"].T
    return added


def _norm(x: Array, weight: Array) -> Array:
    normed: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight
    return normed
