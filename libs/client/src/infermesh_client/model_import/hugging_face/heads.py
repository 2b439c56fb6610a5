"""Makes config.json say that the output head is not the embedding, where the files hold another one.

Versions of transformers differ in what they do when tie_word_embeddings is true and there is a head: some load it, and
some use the embedding.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from infermesh_client.model_import.hugging_face.tensors import EMBEDDINGS, HEADS, named_tensor
from infermesh_client.weight_files.safetensors_header import SafeTensor, read_tensors

_CHUNK_BYTES = 8 << 20


def untie_own_head(folder: Path) -> bool:
    """Changes config.json in a model's folder if it has to say so; returns whether it did."""
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    text = config.get("text_config")
    parts = [part for part in (config, text) if isinstance(part, dict) and part.get("tie_word_embeddings") is True]
    if not parts or _same(folder):
        return False
    for part in parts:
        part["tie_word_embeddings"] = False
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return True


def _same(folder: Path) -> bool:
    """Whether there is no head, or it holds the embedding's numbers."""
    files = {path: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}
    head, embedding = _find(files, HEADS), _find(files, EMBEDDINGS)
    if head is None or embedding is None:
        return True
    if (head[1].dtype, head[1].shape) != (embedding[1].dtype, embedding[1].shape):
        return False
    with head[0].open("rb") as one, embedding[0].open("rb") as other:
        return all(a == b for a, b in zip(_chunks(one, head[1]), _chunks(other, embedding[1]), strict=True))


def _find(files: Mapping[Path, Mapping[str, SafeTensor]], endings: tuple[str, ...]) -> tuple[Path, SafeTensor] | None:
    found = ((path, named_tensor(tensors, endings)) for path, tensors in files.items())
    return next(((path, tensor) for path, tensor in found if tensor is not None), None)


def _chunks(file: BinaryIO, tensor: SafeTensor) -> Iterator[bytes]:
    begin = 8 + int.from_bytes(file.read(8), "little")
    first, last = tensor.data_offsets
    file.seek(begin + first)
    for place in range(first, last, _CHUNK_BYTES):
        yield file.read(min(_CHUNK_BYTES, last - place))
