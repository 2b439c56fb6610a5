"""Owns the models root while models come and go: staging folders, their locks, the atomic swap. Knows no file formats.

Every import works in `.import-NAME-XXXX` beside its target and holds a lock on a file in it for as long as it lives. A
staging folder whose lock is free was left by a process that died; the next import removes it. Creating, publishing and
removing happen under one short lock of the root, so that no import can take another's young folder for a dead one.
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
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class ModelExists(FailedPrecondition):
    """A model of that name is there already."""

    reason = "MODEL_EXISTS"


@contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """An empty folder beside the model's own, removed when the block ends unless `publish` moved it.

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
    """Makes the staging folder the model, in one rename. With `force` an existing model is swapped for it atomically.

    Raises ModelExists without `force` when the model is there.
    """
    with _locked(target.parent / _ROOT_LOCK):
        (folder / _OWNER_LOCK).unlink()
        folder.chmod(0o755)  # mkdtemp's folders are private, a models root is shared with containers
        if not target.exists():
            folder.rename(target)
        elif force:
            _exchange(folder, target)
        else:
            raise ModelExists(f"{target.name} was imported by somebody else meanwhile; use --force to replace it")
    _sync_folder(target.parent)


def remove_model(root: Path, name: str) -> None:
    """Removes a model; readers that have it open keep it. Raises ModelNotFound."""
    target = root / name
    if not target.is_dir():
        raise ModelNotFound(f"there is no model {name!r} in {root}")
    with staging_folder(root, name) as folder:
        target.rename(folder / name)


def check_free_space(root: Path, needed_bytes: int, *, what: str) -> None:
    """Raises ResourceExhausted when the disk of `root` has less than `needed_bytes` free."""
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise ResourceExhausted(
            f"{what} needs {needed_bytes / 1e9:.2f} GB in {root}, where {free / 1e9:.2f} GB are free",
            reason="DISK_FULL",
        )


def explain_os_error(error: OSError) -> InfermeshError:
    """The error that a failed read or write is for people."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return ResourceExhausted(f"the disk is full{where}", reason="DISK_FULL")
    return FailedPrecondition(f"{error.strerror or error}{where}")


def _remove_stale(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*/"):
        with suppress(FileNotFoundError):  # its owner removes it at this moment
            lock = _try_lock(folder / _OWNER_LOCK)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Takes the lock if nobody has it; it is held until the returned descriptor is closed or the process ends."""
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
    """Swaps two folders; where the file system cannot do it at once, by two renames."""
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
    with suppress(OSError):  # some file systems do not sync folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
