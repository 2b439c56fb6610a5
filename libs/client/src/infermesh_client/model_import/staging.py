"""Adds models to the models folder and removes them, atomically, by way of locked staging folders.

Every import works in a folder `.import-NAME-XXXX` beside its target and holds a lock on a file in it while it runs. A
staging folder whose lock is free was left by a process that died; the next import removes it. Folders are created,
published and removed under one short lock of the root, so that no import mistakes another's new folder for an abandoned
one.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, ModelNotFound, ResourceExhausted

_PREFIX = ".import-"
_ROOT_LOCK = ".import.lock"
_OWNER_LOCK = ".owner.lock"
_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class ModelExists(FailedPrecondition):
    """A model of that name already exists."""

    reason = "MODEL_EXISTS"


@contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder in `root` and removes it when the block ends, unless `publish` has moved it.

    Raises FailedPrecondition when the root cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / _ROOT_LOCK):
            _remove_stale(root)
            folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-", dir=root))
            lock = _try_lock(folder / _OWNER_LOCK)
    except OSError as error:
        raise FailedPrecondition(f"cannot write to the models folder {root}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def publish(folder: Path, target: Path, *, force: bool) -> None:
    """Renames the staging folder to `target`. With `force`, swaps it atomically with an existing model.

    Raises ModelExists when the model exists and `force` is not set.
    """
    with _locked(target.parent / _ROOT_LOCK):
        (folder / _OWNER_LOCK).unlink()
        folder.chmod(0o755)  # mkdtemp makes private folders, but containers share the models folder
        if not target.exists():
            folder.rename(target)
        elif force:
            _exchange(folder, target)
        else:
            raise ModelExists(f"another import has just created {target.name!r}; use --force to replace it")
    _sync_folder(target.parent)


def remove_model(root: Path, name: str) -> None:
    """Removes a model. Processes that have its files open can go on reading them. Raises ModelNotFound."""
    target = root / name
    if not target.is_dir():
        raise ModelNotFound(f"there is no model {name!r} in {root}")
    with staging_folder(root, name) as folder:
        target.rename(folder / name)


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


def _remove_stale(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*/"):
        with suppress(FileNotFoundError):  # its owner is removing it at the same time
            lock = _try_lock(folder / _OWNER_LOCK)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Takes the lock, or returns None if it is taken. It is held until the descriptor is closed or the process ends."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _exchange(folder: Path, target: Path) -> None:
    """Swaps two folders atomically or, if the file system cannot do that, with two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(folder), os.fsencode(target))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(target))
    old = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
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
