"""Chooses the safetensors files that make up a model, from the names in its folder and from its index."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated

import msgspec

from infermesh_runtime.errors import InvalidArgument

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

ReadFile = Callable[[str], bytes]
"""Reads a small file of the folder by its name."""


class _Index(msgspec.Struct):
    """The part of an index that is read."""

    weight_map: Annotated[dict[str, str], msgspec.Meta(min_length=1)]


_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors")


def choose_weights(names: Collection[str], read: ReadFile, place: str) -> Mapping[str, str]:
    """The files with the weights, and their names in the model's folder.

    As in transformers, model.safetensors goes before the files of an index. Raises InvalidArgument when files are
    missing, or when it is not clear which ones make up the model.
    """
    present = [name for name in sorted(names) if name.endswith(".safetensors") and not name.startswith("consolidated")]
    if SINGLE in present:
        return {SINGLE: SINGLE}
    if INDEX in names:
        return _renamed(_of_index(index_shards(read(INDEX), place), present, place))
    if "adapter_model.safetensors" in present:
        raise InvalidArgument(
            f"{place} is an adapter (LoRA), not a whole model; merge it into its base model and import the result"
        )
    return _renamed(_without_index(present, place)) if present else {}


def index_tensors(content: bytes, place: str) -> Mapping[str, str]:
    """The file of each tensor, as an index gives them. Raises InvalidArgument when the index is malformed."""
    try:
        return msgspec.json.decode(content, type=_Index).weight_map
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{INDEX} in {place} is malformed: {error}") from error


def index_shards(content: bytes, place: str) -> Sequence[str]:
    """The files that an index names. Raises InvalidArgument for an index that is malformed or names other folders."""
    shards = sorted(set(index_tensors(content, place).values()))
    for name in shards:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise InvalidArgument(f"{INDEX} in {place} names {name!r}, which is no safetensors file of the same folder")
    return shards


def _of_index(shards: Sequence[str], present: Sequence[str], place: str) -> Sequence[str]:
    if missing := [name for name in shards if name not in present]:
        raise InvalidArgument(
            f"{place} lacks {len(missing)} of the {len(shards)} files that {INDEX} names, such as {missing[0]}; "
            "download the folder again, or remove the index if it belongs to other files"
        )
    return shards


def _without_index(present: Sequence[str], place: str) -> Sequence[str]:
    """The only file, or all shards of the only complete set."""
    if len(present) == 1 and not _SHARD.fullmatch(present[0]):
        return present
    sets: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for name in present:
        if match := _SHARD.fullmatch(name):
            sets[match["stem"], int(match["count"])][int(match["number"])] = name
    if len(sets) != 1:
        raise InvalidArgument(
            f"{place} holds {', '.join(present)} and no {INDEX}, so it is not clear which files make up the model; "
            f"leave only those, or name the one file {SINGLE}"
        )
    (((_, count), numbered),) = sets.items()
    if missing := [number for number in range(1, count + 1) if number not in numbered][:1]:
        raise InvalidArgument(f"{place} lacks shard {missing[0]} of {count} of its weights; download the folder again")
    return [numbered[number] for number in sorted(numbered)]


def _renamed(files: Sequence[str]) -> Mapping[str, str]:
    """The names in the model's folder: a single file gets the one by which every reader finds it."""
    return {files[0]: SINGLE} if len(files) == 1 else {name: name for name in files}
