"""Accounts for a GGUF file, and sets what transformers' reader of such files ignores.

transformers reads the weights. It ignores rope_freqs, most of rope.scaling, the attention scale, and what it does not
know.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.gguf_account.account import make_account
from infermesh_runtime.gguf_account.architectures import ARCHITECTURES
from infermesh_runtime.gguf_account.rope import frequencies
from infermesh_runtime.gguf_account.spec import DecoderSpec, RopeSpec
from infermesh_worker.models.gguf_file import GgufFile


@dataclass(frozen=True, slots=True)
class Frequencies:
    """The angle of each pair per position, float32 [pairs], and the factor of cosines and sines."""

    angles: torch.Tensor
    magnitude: float


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What the file says."""

    spec: DecoderSpec
    everywhere: Frequencies | None
    """Of the layers that attend to all tokens, or of all if no layer has its own; None: no such layer rotates."""
    local: Frequencies | None
    """Of the layers with a window."""


def read(path: Path) -> GgufFacts | None:
    """Reads the account of a file; None for architectures that only transformers knows.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know.
    """
    file = GgufFile(path)
    if file.contents.keys.get("general.architecture") not in ARCHITECTURES:
        return None
    spec = make_account(file.contents).spec
    everywhere, local = (
        next((layer.rope for layer in spec.layers if layer.rope and bool(layer.window) == windowed), None)
        for windowed in (False, True)
    )
    return GgufFacts(spec, _frequencies(file, everywhere or local), _frequencies(file, local))


def apply(facts: GgufFacts, model: PreTrainedModel) -> None:
    """Sets what the reader ignores. Raises FailedPrecondition, naming the key, if the model has no place for it."""
    model.config.final_logit_softcapping = facts.spec.final_soft_cap or None
    for name, module in model.named_modules():
        if name.endswith("self_attn"):
            _set_attention(facts, int(name.split(".")[-2]), module, model.config)
        if hasattr(module, "inv_freq"):
            _set_rotation(facts, module, "", facts.everywhere)
        for kind, found in (("full_attention_", facts.everywhere), ("sliding_attention_", facts.local)):
            if hasattr(module, f"{kind}inv_freq"):
                _set_rotation(facts, module, kind, found)
        for attribute in ("variance_epsilon", "eps"):
            if "RMSNorm" in type(module).__name__ and hasattr(module, attribute):
                setattr(module, attribute, facts.spec.norm_epsilon)


def _frequencies(file: GgufFile, rope: RopeSpec | None) -> Frequencies | None:
    if rope is None:
        return None
    angles, magnitude = frequencies(rope, file.vector(rope.factors).tolist() if rope.factors else None)
    return Frequencies(torch.tensor(angles, dtype=torch.float32), magnitude)


def _set_attention(facts: GgufFacts, index: int, module: nn.Module, config: Any) -> None:
    """Sets scale, window and soft cap of a layer's attention, in the module or where it reads them from, the config."""
    spec = facts.spec
    expected: dict[str, tuple[str, Any]] = {
        "scaling": ("attention.scale", spec.attention_scale),
        "sliding_window": ("attention.sliding_window", spec.layers[index].window or None),
        "attn_logit_softcapping": ("attn_logit_softcapping", spec.attention_soft_cap or None),
    }
    for attribute, (key, value) in expected.items():
        holder = module if hasattr(module, attribute) else config
        if value != getattr(holder, attribute, None):
            if not hasattr(holder, attribute):
                raise _no_place(key, facts)
            setattr(holder, attribute, value)


def _set_rotation(facts: GgufFacts, module: nn.Module, kind: str, found: Frequencies | None) -> None:
    """Replaces the frequencies of one kind of layer; they must not follow the length, as some of transformers' do."""
    if found is None:
        return
    if getattr(module, f"{kind}inv_freq").shape != found.angles.shape or not hasattr(
        module, f"{kind}attention_scaling"
    ):
        raise _no_place("rope.dimension_count", facts)
    for name in (f"{kind}inv_freq", f"{kind}original_inv_freq"):
        setattr(module, name, nn.Buffer(found.angles.clone(), persistent=False))
    setattr(module, f"{kind}attention_scaling", found.magnitude)
    types = getattr(module, "rope_type", None)
    fixed = dict.fromkeys(types, "default") if isinstance(types, dict) else "default"
    module.rope_type = fixed  # type: ignore[assignment] # mypy takes a module's attributes for tensors


def _no_place(key: str, facts: GgufFacts) -> FailedPrecondition:
    return FailedPrecondition(
        f"worker-xpu cannot serve this GGUF file: transformers does not apply {facts.spec.architecture}.{key}",
        reason="MODEL_NOT_SUPPORTED",
    )
