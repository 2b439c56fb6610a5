"""Checks the weights of a model on a hub by their headers, before they are downloaded."""

import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from infermesh_client.model_import.fetching.hub import HubFiles
from infermesh_client.model_import.hugging_face.folder import check_folder
from infermesh_client.model_import.hugging_face.weights import INDEX, SINGLE
from infermesh_client.weight_files.safetensors_header import MAX_HEADER_BYTES

ReadBeginning = Callable[[str, int], bytes]
"""Reads the first bytes of a file on the hub: at least as many as asked for, if it has so many."""

_LENGTH_BYTES = 8
_FIRST_BYTES = 64 << 10
"""Enough for the headers of most shards."""


def check_remote_weights(place: Path, files: HubFiles, label: str, read_beginning: ReadBeginning) -> None:
    """Checks the shards of an index as those of a folder are checked. `place` has the model's small files.

    An index is what can name shards and tensors that are not there. Raises InvalidArgument.
    """
    weights = {name: size for name, size in files.sizes_bytes.items() if name.endswith(".safetensors")}
    if INDEX not in files.names or SINGLE in weights or not all(weights.values()):
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for path in place.iterdir():
            if path.is_file() and path.name not in weights:
                (folder / path.name).symlink_to(path.resolve())
        (folder / INDEX).write_bytes(read_beginning(INDEX, MAX_HEADER_BYTES))
        _write_headers(folder, weights, read_beginning)
        check_folder(folder, files.names, files.layout.files, label, lambda _: None)


def _write_headers(folder: Path, weights: Mapping[str, int], read_beginning: ReadBeginning) -> None:
    """Writes files of the right sizes that hold nothing but the headers and take no space on the disk."""
    for name, size_bytes in weights.items():
        first = read_beginning(name, _FIRST_BYTES)[:size_bytes]
        if len(first) >= _LENGTH_BYTES:
            needed = _LENGTH_BYTES + struct.unpack("<Q", first[:_LENGTH_BYTES])[0]
            if len(first) < needed <= min(MAX_HEADER_BYTES, size_bytes):
                first = read_beginning(name, needed)[:size_bytes]
        with (folder / name).open("wb") as file:
            file.write(first)
            file.truncate(size_bytes)
