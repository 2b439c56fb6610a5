"""Says in a few lines what an import would take in: architecture, types of weights, tokenizer, disk space."""

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from infermesh_client.weight_files.gguf_checks import ARCHITECTURE, TOKENIZER, TOKENS, type_name
from infermesh_client.weight_files.safetensors_header import SafeTensor
from infermesh_client.weight_files.splits import Shard, merged_header

COPIES = 2
"""An import needs room for the copy and for a conversion of the same size."""


def gguf_lines(shards: Sequence[Shard]) -> Sequence[str]:
    """What the header of a GGUF model says."""
    header = merged_header(shards)
    types = Counter(type_name(tensor.type) for tensor in header.tensors)
    split = f", merged from {len(shards)} shards" if len(shards) > 1 else ""
    pre = header.keys.get("tokenizer.ggml.pre")
    return (
        f"architecture: {header.keys[ARCHITECTURE]}",
        _weights(types, sum(math.prod(tensor.shape) for tensor in header.tensors)) + split,
        f"tokenizer: {header.keys[TOKENIZER]}{f' ({pre})' if pre else ''}, {header.keys[TOKENS].count} tokens",
    )


def safetensors_lines(tensors: Mapping[str, SafeTensor], architecture: str) -> Sequence[str]:
    """What the headers of safetensors say; `architecture` is the one that the configuration names."""
    types = Counter(tensor.dtype for tensor in tensors.values())
    count = sum(math.prod(tensor.shape) for tensor in tensors.values())
    return (f"architecture: {architecture}", _weights(types, count))


def facts_lines(
    context_length: int, eos_token_ids: Sequence[int], *, chat: bool, stated_length: int | None = None
) -> Sequence[str]:
    """What the manifest will say; `stated_length` is the context that the configuration names."""
    return (
        f"context: {context_length} tokens{context_note(context_length, stated_length or context_length)}",
        f"end-of-sequence tokens: {', '.join(map(str, eos_token_ids)) or 'named by no number'}",
        f"chat template: {'yes' if chat else 'none, so it is a base model'}",
    )


def context_note(context_length: int, stated_length: int) -> str:
    """Why a context is shorter than the configuration says, to be put behind it; empty where it is not."""
    if context_length == stated_length:
        return ""
    return f" of {stated_length}, because beyond them LongRoPE turns positions by the longest text of a batch"


def disk_line(root: Path, size_bytes: int) -> str:
    """How much disk space the import needs, and how much is free."""
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return f"disk: up to {COPIES * size_bytes / 1e9:.2f} GB needed in {root}, {free / 1e9:.2f} GB free"


def _weights(types: Mapping[str, int], parameters: int) -> str:
    listed = ", ".join(f"{count} {name}" for name, count in sorted(types.items()))
    return f"weights: {sum(types.values())} tensors ({listed}), {parameters / 1e6:.1f} million parameters"
