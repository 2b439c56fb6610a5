"""Rotary positions: reads their keys, and computes the frequency of each pair of numbers.

The formulas are those of llama.cpp (ggml_rope_ext, llama_context), which agree with transformers' modeling_rope_utils.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.gguf_account.architectures import Architecture
from infermesh_runtime.gguf_account.contents import StoredTensor
from infermesh_runtime.gguf_account.key_reader import KeyReader
from infermesh_runtime.gguf_account.spec import RopeSpec, YarnSpec

_FREQS, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"


def read_rope(
    reader: KeyReader, rules: Architecture, tensors: Mapping[str, StoredTensor], head_size: int, context: int
) -> tuple[RopeSpec, RopeSpec]:
    """Reads the rope of layers that attend to all tokens, and that of layers with a window."""
    dimensions = reader.count("rope.dimension_count", head_size, least=2)
    if dimensions > head_size or dimensions % 2:
        raise reader.wrong("rope.dimension_count", f"an even number of at most {head_size}")
    base = _base(reader, "rope.freq_base", 10000.0)
    plain = RopeSpec(dimensions=dimensions, base=base, pairing=rules.pairing)
    everywhere = _scaled(reader, plain, rules, tensors, context)
    local_base = _base(reader, "rope.freq_base_swa", rules.local_rope_base or base)
    template = plain if rules.local_rope_unscaled else everywhere
    return everywhere, replace(template, base=local_base)


def frequencies(rope: RopeSpec, factors: Sequence[float] | None = None) -> tuple[list[float], float]:
    """The angle per position of each of the dimensions / 2 pairs, and the factor of cosines and sines.

    Raises InvalidArgument, naming the tensor, for a factor that is not positive.
    """
    if factors is not None and not all(factor > 0 for factor in factors):
        raise InvalidArgument(f"this GGUF file's tensor {rope.factors} has factors that are not positive")
    half = rope.dimensions // 2
    divide = factors if factors is not None else [1.0] * half
    original = [rope.base ** (-2.0 * pair / rope.dimensions) / divide[pair] for pair in range(half)]
    if rope.yarn is None:
        return [angle * rope.scale for angle in original], rope.attention_factor
    low, high = _correction_range(rope, rope.yarn)
    mixed = []
    for pair, angle in enumerate(original):
        ramp = 1.0 - min(1.0, max(0.0, (pair - low) / max(0.001, high - low)))
        keep = ramp * rope.yarn.extrapolation
        mixed.append(angle * rope.scale * (1.0 - keep) + angle * keep)
    magnitude = 1.0 + 0.1 * math.log(1.0 / rope.scale) if rope.yarn.extrapolation else 1.0
    return mixed, rope.attention_factor * magnitude


def _base(reader: KeyReader, name: str, default: float) -> float:
    base = reader.number(name, default)
    if base <= 1:
        raise reader.wrong(name, "a number above 1")
    return base


def _correction_range(rope: RopeSpec, yarn: YarnSpec) -> tuple[float, float]:
    def pair_of(rotations: float) -> float:
        turns = yarn.original_context / (rotations * 2.0 * math.pi)
        return rope.dimensions * math.log(turns) / (2.0 * math.log(rope.base))

    low, high = math.floor(pair_of(yarn.beta_fast)), math.ceil(pair_of(yarn.beta_slow))
    return max(0.0, low), min(rope.dimensions - 1.0, high)


def _scaled(
    reader: KeyReader, plain: RopeSpec, rules: Architecture, tensors: Mapping[str, StoredTensor], context: int
) -> RopeSpec:
    """Applies the keys rope.scaling.* and the tensors of factors."""
    factor = reader.number("rope.scaling.factor", reader.number("rope.scale_linear", 1.0)) or 1.0
    if factor < 0:
        raise reader.wrong("rope.scaling.factor", "a positive number")
    # without a type, llama.cpp scales linearly by the factor
    kind = reader.text("rope.scaling.type", "linear")
    original = reader.count("rope.scaling.original_context_length", context)
    attention_factor = reader.number("rope.scaling.attn_factor", 1.0)
    reader.neutral("rope.scaling.yarn_log_multiplier", (0.0,))
    reader.neutral("rope.scaling.yarn_attn_factor", (1.0, -1.0))
    if kind not in ("none", "linear", "yarn") and not (kind == "longrope" and factor == 1.0):
        raise reader.wrong("rope.scaling.type", "none, linear, yarn, or longrope without a factor")
    return replace(
        plain,
        factors=_factors(rules, tensors, extended=context > original),
        attention_factor=attention_factor,
        scale=1.0 if kind == "none" else 1.0 / factor,
        yarn=_yarn(reader, original) if kind == "yarn" else None,
    )


def _factors(rules: Architecture, tensors: Mapping[str, StoredTensor], *, extended: bool) -> str | None:
    """The tensor that divides the frequencies. As llama.cpp does, the whole context decides between long and short."""
    names = (_FREQS, _LONG if extended else _SHORT) if rules.rope_tensors else ()
    return next((name for name in names if name in tensors), None)


def _yarn(reader: KeyReader, original: int) -> YarnSpec:
    extrapolation = reader.number("rope.scaling.yarn_ext_factor", 1.0)
    return YarnSpec(
        original_context=original,
        extrapolation=1.0 if extrapolation < 0 else extrapolation,
        beta_fast=reader.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=reader.number("rope.scaling.yarn_beta_slow", 1.0),
    )
