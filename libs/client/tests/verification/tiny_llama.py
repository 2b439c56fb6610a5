"""Writes tiny Llamas of random weights as GGUF files, and computes in float64 which token follows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quantize
from numpy.typing import NDArray

VOCABULARY, HIDDEN, LAYERS, HEADS, KV_HEADS, FF = 256, 64, 2, 4, 2, 128
HEAD = HIDDEN // HEADS
FACTORS = np.concatenate([np.ones(4, np.float32), np.full(4, 8.0, np.float32)])
Array = NDArray[np.float64]


def write(
    path: Path,
    keys: Mapping[str, str | float] | None = None,
    tensors: Mapping[str, NDArray[np.float32]] | None = None,
    quantised: GGMLQuantizationType = GGMLQuantizationType.F16,
) -> Path:
    """`keys` and `tensors` are laid over those of a plain Llama; matrices are stored as `quantised`."""
    writer, chance = GGUFWriter(path, "llama"), np.random.default_rng(0)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, value in (keys or {}).items():
        kind = GGUFValueType.STRING if isinstance(value, str) else GGUFValueType.FLOAT32
        writer.add_key_value(f"llama.{name}", value, kind)

    def normal(*shape: int, scale: float = 0.3) -> NDArray[np.float32]:
        return (chance.standard_normal(shape) * scale).astype(np.float32)

    weights: dict[str, NDArray[Any]] = {"output_norm.weight": np.ones(HIDDEN)}
    weights["token_embd.weight"] = normal(VOCABULARY, HIDDEN, scale=1.0)
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        weights |= {f"{at}{name}.weight": np.ones(HIDDEN) for name in ("attn_norm", "ffn_norm")}
        weights |= {f"{at}attn_q.weight": normal(HIDDEN, HIDDEN), f"{at}attn_k.weight": normal(KV_HEADS * HEAD, HIDDEN)}
        weights |= {f"{at}attn_v.weight": normal(KV_HEADS * HEAD, HIDDEN)}
        weights |= {f"{at}attn_output.weight": normal(HIDDEN, HIDDEN), f"{at}ffn_gate.weight": normal(FF, HIDDEN)}
        weights |= {f"{at}ffn_up.weight": normal(FF, HIDDEN), f"{at}ffn_down.weight": normal(HIDDEN, FF)}
    for name, weight in (weights | dict(tensors or {})).items():
        stored = quantised if weight.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(weight.astype(np.float32), stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def next_token(path: Path, ids: list[int], *, factors: NDArray[np.float32] | None = None, scale: float = 1.0) -> int:
    """The most probable token after `ids`, for a file with F16 matrices."""
    weights: dict[str, Array] = {}
    for tensor in GGUFReader(path).tensors:
        weights[tensor.name] = np.array(tensor.data, np.float64)
    inverse = 10000.0 ** (-np.arange(0, HEAD, 2) / HEAD) / (1.0 if factors is None else factors)
    angle = (np.arange(len(ids)) * scale)[:, None] * inverse[None]
    turn = np.exp(1j * angle)[:, None]

    def rotate(x: Array) -> Array:
        pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)

    def norm(x: Array) -> Array:
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5))

    x, mask = weights["token_embd.weight"][ids], np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    for layer in range(LAYERS):
        w = {name.split(".")[2]: weight.T for name, weight in weights.items() if name.startswith(f"blk.{layer}.")}
        h = norm(x)
        q, k, v = (
            (h @ w[name]).reshape(len(ids), -1, HEAD).repeat(HEADS * HEAD // w[name].shape[1], 1)
            for name in ("attn_q", "attn_k", "attn_v")
        )
        a = np.einsum("nhd,mhd->hnm", rotate(q), rotate(k)) / np.sqrt(HEAD) + mask
        a = np.exp(a - a.max(-1, keepdims=True))
        x = x + np.einsum("hnm,mhd->nhd", a / a.sum(-1, keepdims=True), v).reshape(len(ids), -1) @ w["attn_output"]
        h = norm(x)
        g = h @ w["ffn_gate"]
        x = x + ((g / (1 + np.exp(-g))) * (h @ w["ffn_up"])) @ w["ffn_down"]
    return int((weights["token_embd.weight"] @ norm(x[-1])).argmax())
