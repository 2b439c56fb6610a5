"""Finds the shards of a GGUF file that was split, and merges them into one file."""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from infermesh_client.weight_files.gguf_checks import size_bytes
from infermesh_client.weight_files.gguf_header import MAGIC, GgufHeader, HeaderError, TensorFacts, read_header
from infermesh_runtime.errors import InvalidArgument

_COUNT, _NUMBER, _TENSORS = "split.count", "split.no", "split.tensors.count"
_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_CHUNK_BYTES, _VERSION = 8 << 20, 3


class Advance(Protocol):
    """Told how many more bytes were written."""

    def advance(self, amount: float, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a split model."""

    path: Path
    header: GgufHeader


def shard_names(name: str) -> Sequence[str]:
    """The names of all shards of which `name` is one; only itself when it is not named like a shard."""
    match = _NAME.fullmatch(name)
    if not match:
        return (name,)
    count = int(match["count"])
    return [f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, count + 1)]


def one_model(names: Sequence[str]) -> bool:
    """Whether the GGUF files are one model: a single file, or the shards of one."""
    return bool(names) and set(names) == set(shard_names(min(names)))


def find_shards(path: Path, header: GgufHeader) -> Sequence[Shard]:
    """All shards of the model of which `path` is one, in order; one entry when it is not split.

    Raises InvalidArgument that says which shard it is when a sibling is missing or does not belong to it.
    """
    count, number = header.keys.get(_COUNT, 1), header.keys.get(_NUMBER, 0)
    if not isinstance(count, int) or not isinstance(number, int):
        raise InvalidArgument(f"{path}: {_COUNT} and {_NUMBER} are not numbers")
    if count <= 1:
        return (Shard(path, header),)
    what = f"{path} is shard {number + 1} of {count}"
    names = shard_names(path.name)
    if len(names) != count:
        raise InvalidArgument(
            f"{what}, and its siblings cannot be found: shards are named like NAME-{number + 1:05}-of-{count:05}.gguf"
        )
    if missing := [name for name in names if not path.with_name(name).is_file()]:
        raise InvalidArgument(f"{what}; {', '.join(missing)} must lie beside it")
    shards = [Shard(path.with_name(name), _read(path.with_name(name))) for name in names]
    for index, shard in enumerate(shards):
        if (shard.header.keys.get(_COUNT), shard.header.keys.get(_NUMBER)) != (count, index):
            raise InvalidArgument(f"{what}, but {shard.path} does not say that it is shard {index + 1} of {count}")
    found, told = sum(len(shard.header.tensors) for shard in shards), shards[0].header.keys.get(_TENSORS)
    if told is not None and told != found:
        raise InvalidArgument(f"{what}: together its shards have {found} tensors, but {_TENSORS} says {told}")
    return shards


def merged_header(shards: Sequence[Shard]) -> GgufHeader:
    """The header of the merged file, whose tensors lie one after another. Raises HeaderError."""
    first, at = shards[0].header, 0
    tensors = []
    for _, tensor in _tensors(shards):
        tensors.append(TensorFacts(tensor.name, tensor.shape, tensor.type, at))
        at = _aligned(at + size_bytes(tensor), first.alignment)
    keys = {name: value for name, value in first.keys.items() if not name.startswith("split.")}
    spans = {name: first.spans[name] for name in keys}
    return replace(first, keys=keys, spans=spans, tensors=tuple(tensors), data_begin=0, file_bytes=at)


def merge(shards: Sequence[Shard], target: Path, step: Advance) -> None:
    """Writes the shards to `target` as one file. Raises HeaderError or OSError."""
    merged = merged_header(shards)
    with shards[0].path.open("rb") as first, target.open("wb") as out:
        out.write(MAGIC + struct.pack("<IQQ", _VERSION, len(merged.tensors), len(merged.keys)))
        for begin, end in merged.spans.values():
            first.seek(begin)
            out.write(first.read(end - begin))
        for tensor in merged.tensors:
            out.write(_entry(tensor))
        _pad(out, merged.alignment)
        for shard in shards:
            with shard.path.open("rb") as file:
                for tensor in shard.header.tensors:
                    file.seek(shard.header.data_begin + tensor.offset)
                    _copy(file, out, size_bytes(tensor), step)
                    _pad(out, merged.alignment)


def _read(path: Path) -> GgufHeader:
    try:
        return read_header(path)
    except HeaderError as error:
        raise InvalidArgument(f"{path}: {error}") from error


def _tensors(shards: Sequence[Shard]) -> Iterator[tuple[Shard, TensorFacts]]:
    for shard in shards:
        for tensor in shard.header.tensors:
            yield shard, tensor


def _entry(tensor: TensorFacts) -> bytes:
    name = tensor.name.encode()
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", tensor.type, tensor.offset)


def _copy(source: BinaryIO, target: BinaryIO, count: int, step: Advance) -> None:
    while count:
        chunk = source.read(min(count, _CHUNK_BYTES))
        if not chunk:
            raise HeaderError("a shard became shorter while it was read")
        target.write(chunk)
        step.advance(len(chunk))
        count -= len(chunk)


def _pad(file: BinaryIO, alignment: int) -> None:
    at = file.tell()
    file.write(bytes(_aligned(at, alignment) - at))


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
