"""Refuses GGUF files whose header contradicts itself, the file's size, or what a language model needs."""

import math
from collections.abc import Mapping
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from infermesh_client.weight_files.gguf_header import ArrayFacts, GgufHeader, HeaderError, TensorFacts

ARCHITECTURE, TOKENIZER, TOKENS = "general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.tokens"
EMBEDDING = "token_embd.weight"
_NO_LANGUAGE_MODELS: Mapping[str, str] = {
    "clip": "the vision part of another model (mmproj)",
    "whisper": "a speech model",
}
_NO_MODELS = {"adapter": "a LoRA adapter", "vocab": "a tokeniser without weights", "imatrix": "an importance matrix"}


def check_model(header: GgufHeader) -> None:
    """Raises HeaderError if the file is no language model, or lacks what one needs."""
    _check_kind(header.keys)
    _check_tokenizer(header.keys)
    names = {tensor.name for tensor in header.tensors}
    if len(names) < len(header.tensors):
        raise HeaderError("two of its tensors have the same name")
    if not names:
        raise HeaderError("it holds no tensors")
    _check_embedding(header)


def check_places(header: GgufHeader) -> None:
    """Raises HeaderError unless every tensor has a known type, lies inside the file, aligned, and overlaps no other."""
    available, end = header.file_bytes - header.data_begin, 0
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        size = size_bytes(tensor)
        if tensor.offset % header.alignment:
            raise HeaderError(
                f"the tensor {tensor.name!r} begins at byte {tensor.offset} of the data, not a multiple of "
                f"{header.alignment}"
            )
        if tensor.offset < end:
            raise HeaderError(f"the tensor {tensor.name!r} overlaps the one before it")
        end = tensor.offset + size
        if end > available:
            raise HeaderError(
                f"it is cut short: the tensor {tensor.name!r} ends at byte {header.data_begin + end}, and the file has "
                f"{header.file_bytes} bytes. Download it again"
            )


def type_name(kind: int) -> str:
    """Name of a type of tensors, as in Q4_K. Raises HeaderError for an unknown number."""
    try:
        return GGMLQuantizationType(kind).name
    except ValueError:
        raise HeaderError(f"a tensor has the type {kind}, which this version does not know") from None


def size_bytes(tensor: TensorFacts) -> int:
    """Size of a tensor's data. Raises HeaderError for an unknown type or a shape that the type cannot have."""
    type_name(tensor.type)
    block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
    count = math.prod(tensor.shape)
    if not 0 < count < 1 << 48:
        raise HeaderError(f"the tensor {tensor.name!r} has the shape {list(tensor.shape)}, which cannot be")
    if tensor.shape[0] % block_values:
        raise HeaderError(
            f"the tensor {tensor.name!r} is {type_name(tensor.type)}, but its rows have {tensor.shape[0]} values, "
            f"not a multiple of {block_values}"
        )
    return count // block_values * block_bytes


def _check_kind(keys: Mapping[str, Any]) -> None:
    architecture, kind = keys.get(ARCHITECTURE), keys.get("general.type", "model")
    if kind in _NO_MODELS:
        raise HeaderError(f"it is {_NO_MODELS[kind]}, not a model")
    if not isinstance(architecture, str) or not architecture:
        raise HeaderError(f"it has no {ARCHITECTURE}, so it is not a model")
    if architecture in _NO_LANGUAGE_MODELS:
        raise HeaderError(f"its architecture is {architecture!r}, {_NO_LANGUAGE_MODELS[architecture]}")
    if not isinstance(keys.get(f"{architecture}.context_length"), int):
        raise HeaderError(f"it has no {architecture}.context_length")


def _check_tokenizer(keys: Mapping[str, Any]) -> None:
    tokens = keys.get(TOKENS)
    if not isinstance(keys.get(TOKENIZER), str) or not isinstance(tokens, ArrayFacts) or not tokens.count:
        raise HeaderError(f"it has no tokenizer ({TOKENIZER} and {TOKENS})")
    for name in ("token_type", "scores"):
        array = keys.get(f"tokenizer.ggml.{name}")
        if array is not None and (not isinstance(array, ArrayFacts) or array.count != tokens.count):
            raise HeaderError(f"tokenizer.ggml.{name} does not have one entry for each of its {tokens.count} tokens")


def _check_embedding(header: GgufHeader) -> None:
    tokens = header.keys[TOKENS].count
    embedding = next((tensor for tensor in header.tensors if tensor.name == EMBEDDING), None)
    if embedding is not None and len(embedding.shape) > 1 and embedding.shape[1] < tokens:
        raise HeaderError(f"its tokenizer has {tokens} tokens, but {EMBEDDING} has only {embedding.shape[1]} rows")
