"""Keeps what was downloaded of a model when its import fails, so that the same import goes on from there."""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infermesh_runtime.importing.models_folder import DOWNLOAD_LOCK, DOWNLOADS

FOLDER = DOWNLOADS
"""In the models folder, so that a finished download needs no second copy."""


@contextmanager
def download_folder(root: Path, source: str, scratch: Path) -> Iterator[Path]:
    """Yields the folder for downloads of `source`, which survives failures and is removed when the block succeeds.

    While another import downloads the same source, it is a new folder in `scratch` that nobody keeps.
    """
    name = re.sub(r"[^\w.-]+", "-", source)[-80:] + "-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    folder = root / FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / DOWNLOAD_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _taken(lock, folder / DOWNLOAD_LOCK):
        os.close(lock)
        yield Path(tempfile.mkdtemp(prefix=".download-", dir=scratch))
        return
    try:
        os.utime(lock)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
        with suppress(OSError):  # other downloads are kept there
            (root / FOLDER).rmdir()


def _taken(lock: int, path: Path) -> bool:
    """Takes the lock; False when another import has it, or has just finished and removed the folder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return path.is_file() and os.path.samestat(os.fstat(lock), path.stat())
