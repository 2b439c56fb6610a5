"""Adds models to the models folder atomically, by way of the locked scratch folders of infermesh_runtime."""

import ctypes
import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, ResourceExhausted
from infermesh_runtime.importing.models_folder import (
    OWNER_LOCK,
    ROOT_LOCK,
    SCRATCH_PREFIX,
    locked,
    remove_model,
    staging_folder,
)

__all__ = [
    "ModelExists",
    "check_free_space",
    "disk_bytes",
    "explain_os_error",
    "publish",
    "remove_model",
    "staging_folder",
]

_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class ModelExists(FailedPrecondition):
    """A model of that name already exists."""

    reason = "MODEL_EXISTS"


def publish(folder: Path, target: Path, view: ProgressView, *, force: bool) -> None:
    """Renames the staging folder to `target`, and tells the view. With `force`, swaps it atomically with a model there.

    Raises ModelExists when the model exists and `force` is not set.
    """
    with locked(target.parent / ROOT_LOCK):
        (folder / OWNER_LOCK).unlink()
        folder.chmod(0o755)  # mkdtemp makes private folders, but containers share the models folder
        if not target.exists():
            folder.rename(target)
        elif force:
            _exchange(folder, target)
        else:
            raise ModelExists(f"another import has just created {target.name!r}; use --force to replace it")
    view.published()  # at once: the rest of an import takes a while, and may be ended
    _sync_folder(target.parent)


def disk_bytes(folder: Path) -> int:
    """The disk space that a folder takes, as `du` counts it: whole blocks, converted copies too, hard links once."""
    seen: dict[tuple[int, int], int] = {}
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # removed meanwhile
            stat = path.lstat()
            seen[stat.st_dev, stat.st_ino] = stat.st_blocks * _BLOCK_BYTES
    return sum(seen.values())


def check_free_space(root: Path, needed_bytes: int, *, what: str) -> None:
    """Raises ResourceExhausted when the disk of `root` has less than `needed_bytes` free."""
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise ResourceExhausted(
            f"{what} needs {needed_bytes / 1e9:.2f} GB in {root}, but only {free / 1e9:.2f} GB are free",
            reason="DISK_FULL",
        )


def explain_os_error(error: OSError) -> InfermeshError:
    """Turns a failed read or write into an error that names the file and the cause."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return ResourceExhausted(f"the disk is full{where}", reason="DISK_FULL")
    return FailedPrecondition(f"{error.strerror or error}{where}")


def _exchange(folder: Path, target: Path) -> None:
    """Swaps two folders atomically or, if the file system cannot do that, with two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(folder), os.fsencode(target))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(target))
    old = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=target.parent))
    target.rename(old / target.name)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot sync folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
