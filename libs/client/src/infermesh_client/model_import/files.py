"""Copies and hashes files, and shows the progress."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from infermesh_client.model_import.progress import ProgressStep, ProgressView
from infermesh_runtime.manifest.model_manifest import FileEntry, hash_file

_CHUNK_BYTES = 8 << 20


def copy_files(pairs: Iterable[tuple[Path, Path]], view: ProgressView, *, title: str) -> None:
    """Copies each source to its target and creates folders as needed. Symbolic links are followed."""
    pairs = list(pairs)
    with view.bytes_step(title, sum(source.stat().st_size for source, _ in pairs)) as step:
        for source, target in pairs:
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as reader, target.open("wb") as writer:
                copy_stream(reader, writer, step)


def link_file(source: Path, target: Path) -> None:
    """Makes `target` a hard link to the file, or a symbolic link where the file system cannot do that."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        target.symlink_to(real)


def copy_stream(reader: BinaryIO, writer: BinaryIO, step: ProgressStep) -> None:
    """Copies everything that the reader still holds."""
    while chunk := reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        step.advance(len(chunk))


def hash_folder(folder: Path, view: ProgressView) -> dict[str, FileEntry]:
    """Returns size and SHA-256 of every file below the folder, by relative path. Hidden files are left out.

    Each file is synced to the disk before it is hashed, so that a manifest never names data that a power cut can lose.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    with view.bytes_step("Hashing", sum(path.stat().st_size for path in paths)) as step:
        return {path.relative_to(folder).as_posix(): _hash_file(path, step) for path in paths}


def _hash_file(path: Path, step: ProgressStep) -> FileEntry:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hash_file(file, step.advance)


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
