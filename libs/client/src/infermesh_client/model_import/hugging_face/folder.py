"""Checks a Hugging Face folder: whether the files that would be copied make up a model that workers can read."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from infermesh_client.model_import.hugging_face.checkpoint import check_checkpoint
from infermesh_client.model_import.hugging_face.tensors import check_named, check_tensors, embedding_rows, read_files
from infermesh_client.model_import.hugging_face.vocabulary import tokens_beyond
from infermesh_client.model_import.hugging_face.weights import INDEX, SINGLE, index_shards, index_tensors
from infermesh_client.weight_files.pointers import check_no_pointer
from infermesh_runtime.errors import InvalidArgument

Say = Callable[[str], object]


def check_folder(folder: Path, names: Collection[str], files: Mapping[str, str], place: str, say: Say) -> None:
    """Checks `files`, which maps names in `folder` to those in the model's folder; `names` are all that `place` has.

    Errors call the folder `place`. Reads headers and JSON, not the weights. Raises InvalidArgument.
    """
    for name in files:
        check_no_pointer(folder / name)
    config = read_config((folder / "config.json").read_bytes(), place)
    check_checkpoint(config, names, place)
    weights = {name: folder / name for name in files if name.endswith(".safetensors")}
    tensors = read_files(weights, place)
    if (folder / INDEX).is_file():
        content = (folder / INDEX).read_bytes()
        if not _is_stale(content, names, list(weights), place):
            check_named(tensors, index_tensors(content, place), place)
    check_tensors(tensors, config, place)
    rows = embedding_rows(tensors)
    beyond = tokens_beyond(folder / "tokenizer.json", rows) if rows is not None else []
    if beyond:
        say(
            f"The embedding has {rows} rows, too few for {len(beyond)} tokens of the tokenizer, such as {beyond[0]!r}: "
            "requests that contain them will be refused"
        )


def read_config(content: bytes, place: str) -> Mapping[str, Any]:
    """The object in config.json. Raises InvalidArgument when it is none."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"config.json in {place} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidArgument(f"config.json in {place} is not a JSON object")
    return config


def _is_stale(content: bytes, names: Collection[str], weights: Collection[str], place: str) -> bool:
    """Whether an index beside model.safetensors names other files, which are not all there."""
    return SINGLE in weights and any(name not in names for name in index_shards(content, place))
