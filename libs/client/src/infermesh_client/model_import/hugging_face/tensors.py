"""Checks the tensors of a model across its files, before they are copied, and writes their index."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_client.model_import.hugging_face.weights import INDEX
from infermesh_client.weight_files.gguf_header import HeaderError
from infermesh_client.weight_files.safetensors_header import SafeTensor, read_tensors
from infermesh_runtime.errors import InvalidArgument

Tensors = Mapping[str, SafeTensor]

_PACKED = ("qweight", "qzeros", "weight_packed", "weight_scale", "weight_scale_inv", "absmax", "weight_blocks")
"""Last parts of the names of tensors that only quantised checkpoints have."""
_PLAIN = frozenset({"F64", "F32", "F16", "BF16", "BOOL", "I8", "U8", "I16", "I32", "I64"})
"""Types of unquantised weights, and of the masks and positions that some checkpoints carry."""
EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
)
HEADS = ("lm_head.weight", "embed_out.weight", "output.weight", "output_layer.weight", "lm_head.linear.weight")


def read_files(files: Mapping[str, Path], place: str) -> Tensors:
    """All tensors of the files `files`, which maps their names in `place` to where they are now.

    Raises InvalidArgument when a file is damaged, or a tensor is in two files or quantised.
    """
    found: dict[str, SafeTensor] = {}
    homes: dict[str, str] = {}
    for name, path in files.items():
        try:
            tensors = read_tensors(path)
        except HeaderError as error:
            raise InvalidArgument(f"{name} in {place}: {error}") from error
        for tensor, entry in tensors.items():
            if tensor in found:
                raise InvalidArgument(f"{place} has the tensor {tensor} twice, in {homes[tensor]} and in {name}")
            _check_plain(tensor, entry, f"{name} in {place}")
            found[tensor], homes[tensor] = entry, name
    return found


def check_tensors(tensors: Tensors, config: Mapping[str, Any], place: str) -> None:
    """Compares the tensors with config.json. Raises InvalidArgument when the vocabulary or the head does not fit."""
    text = config.get("text_config")
    config = {**config, **text} if isinstance(text, dict) else config
    rows, claimed = embedding_rows(tensors), config.get("vocab_size")
    if rows is not None and isinstance(claimed, int) and rows != claimed:
        raise InvalidArgument(f"{place} has {rows} rows in its embedding, but vocab_size in config.json is {claimed}")
    if config.get("tie_word_embeddings") is False and rows is not None and not named_tensor(tensors, HEADS):
        raise InvalidArgument(
            f"{place} has no output head (lm_head.weight), and config.json says that it is not the embedding; set "
            "tie_word_embeddings to true there if they are the same, or download the folder again"
        )


def check_named(tensors: Tensors, named: Mapping[str, str], place: str) -> None:
    """Raises InvalidArgument when the index names a tensor that is in none of the files."""
    if missing := next((name for name in named if name not in tensors), None):
        raise InvalidArgument(f"{INDEX} in {place} names the tensor {missing}, which is in none of the files")


def embedding_rows(tensors: Tensors) -> int | None:
    """Size of the vocabulary in the embedding; None when no tensor is known to be the embedding."""
    entry = named_tensor(tensors, EMBEDDINGS)
    return entry.shape[0] if entry is not None and len(entry.shape) == 2 else None


def write_index(folder: Path, files: Mapping[str, str]) -> None:
    """Writes the index of shards from what they hold; a single file needs none. `files`: source name to target."""
    targets = sorted(target for target in files.values() if target.endswith(".safetensors"))
    if len(targets) < 2:
        return
    homes = {tensor: target for target in targets for tensor in read_tensors(folder / target)}
    size = sum((folder / target).stat().st_size for target in targets)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(homes.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _check_plain(tensor: str, entry: SafeTensor, place: str) -> None:
    if entry.dtype not in _PLAIN or tensor.rpartition(".")[2] in _PACKED:
        raise InvalidArgument(
            f"{place} holds quantised weights, which no worker reads: {tensor} is {entry.dtype}; import the model that "
            "it was made from (weights in F32, F16 or BF16), or a GGUF file of it"
        )


def named_tensor(tensors: Tensors, endings: tuple[str, ...]) -> SafeTensor | None:
    """The tensor whose name is one of `endings`, or ends with it after a dot."""
    for ending in endings:
        for name, entry in tensors.items():
            if name == ending or name.endswith(f".{ending}"):
                return entry
    return None
