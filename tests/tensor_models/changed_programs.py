"""Changes programs of torch as someone would who wants a worker to run more than their operators."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CODE = "__import__('pathlib').Path('{}').touch()"
"""Python that makes a file."""
_END = b"PK\5\6"
"""Begins the record that ends an archive."""


def changed(source: Path, target: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a program with one member changed, or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        parts = {entry: old.read(entry) for entry in old.namelist()}
        parts[f"{root}/{name}"] = change(parts.get(f"{root}/{name}", b""))
        for entry, body in parts.items():
            new.writestr(entry, body)
    return target


def edited(source: Path, target: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a program with its JSON edited."""

    def change(body: bytes) -> bytes:
        program = json.loads(body)
        edit(program)
        return json.dumps(program).encode()

    return changed(source, target, "models/model.json", change)


def two_directories(for_torch: Path, for_python: Mapping[str, bytes], target: Path) -> Path:
    """An archive with two directories of its members, of which torch reads one, and Python's zipfile the other.

    Torch reads the one at the offset that the archive's end gives; Python takes the one before the end, and supposes
    that something was put before the archive.
    """
    body, directory, end = _parts(for_torch.read_bytes())
    missing = len(directory) - len(_parts(_archive(for_python))[1])
    other_bytes = _archive(for_python, comment=b" " * missing)  # both directories must be of one size
    other_body, other_directory, other_end = _parts(other_bytes)
    assert len(other_directory) == len(directory)
    moved = bytearray(other_end)
    moved[8:12], moved[16:20] = end[8:12], struct.pack("<I", len(body))
    target.write_bytes(body + directory + other_body + other_directory + moved)
    return target


def _archive(members: Mapping[str, bytes], comment: bytes = b"") -> bytes:
    """An archive of these members, with a comment on the last one."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.infolist()[-1].comment = comment
    return target.getvalue()


def _parts(archive: bytes) -> tuple[bytes, bytes, bytes]:
    """The members of an archive, its directory, and its end."""
    end = archive[archive.rindex(_END) :]
    size, offset = struct.unpack("<II", end[12:20])
    return archive[:offset], archive[offset : offset + size], end
