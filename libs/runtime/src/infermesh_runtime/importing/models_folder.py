"""Changes a models folder so that several processes may do so at once: locked scratch folders, atomic removal.

Every import works in a folder `.import-NAME-XXXX` beside its target and holds a lock on a file in it while it runs. A
scratch folder whose lock is free was left by a process that died; the next import removes it. Folders are created,
published and removed under one short lock of the root, so that no import mistakes another's new folder for an abandoned
one.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition, ModelNotFound

SCRATCH_PREFIX = ".import-"
ROOT_LOCK = ".import.lock"
OWNER_LOCK = ".owner.lock"
DOWNLOADS = ".downloads"
"""Folder of what was downloaded for imports that failed, each in a folder of its own."""
DOWNLOAD_LOCK = ".lock"
"""A file in each of them; its time says when an import last worked there."""
_NETWORK_LOCK = ".network-import.lock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder in `root` and removes it when the block ends, unless it was moved away.

    Raises FailedPrecondition when the root cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ROOT_LOCK):
            remove_stale(root)
            folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{name}-", dir=root))
            lock = try_lock(folder / OWNER_LOCK)
    except OSError as error:
        raise FailedPrecondition(f"cannot write to the models folder {root}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_model(root: Path, name: str) -> None:
    """Removes a model. Processes that have its files open can go on reading them. Raises ModelNotFound."""
    target = root / name
    if not target.is_dir():
        raise ModelNotFound(f"there is no model {name!r} in {root}")
    with staging_folder(root, name) as folder:
        target.rename(folder / name)


def clear_after_cancel(root: Path) -> None:
    """Removes what a stopped import over the network has left: scratch folders, and what it downloaded or went on with.

    Call it while `take_network_lock`'s lock is held. What other imports work on stays.
    """
    with suppress(OSError), locked(root / ROOT_LOCK):
        remove_stale(root)
    with suppress(OSError):
        began_ns = (root / _NETWORK_LOCK).stat().st_mtime_ns
        for lock in (root / DOWNLOADS).glob(f"*/{DOWNLOAD_LOCK}"):
            if lock.stat().st_mtime_ns >= began_ns:
                _remove_unlocked(lock.parent, DOWNLOAD_LOCK)
        (root / DOWNLOADS).rmdir()  # fails if other downloads are kept there


def take_network_lock(root: Path) -> int | None:
    """Takes the lock of imports over the network; None while another worker that shares the folder has it.

    It is held until the descriptor is closed. Raises FailedPrecondition when the root cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = try_lock(root / _NETWORK_LOCK)
        if lock is not None:
            os.utime(lock)  # says when the import began
    except OSError as error:
        raise FailedPrecondition(
            f"the models folder {root} cannot be written: {error.strerror}", reason="IMPORT_NOT_POSSIBLE"
        ) from error
    return lock


def folder_id(root: Path) -> str:
    """The same for every process of this machine that means this folder, by whatever path, in containers too.

    Makes the folder if it can, for a missing one has no id that would last.
    """
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
    try:
        found = root.stat()
        what = f"{found.st_dev}:{found.st_ino}"
    except OSError:
        what = str(root.absolute())
    machine = _BOOT_ID.read_text(encoding="ascii") if _BOOT_ID.is_file() else os.uname().nodename
    return hashlib.sha256(f"{machine}:{what}".encode()).hexdigest()[:16]


def remove_stale(root: Path) -> None:
    """Removes scratch folders whose process has died. Call it with the root's lock."""
    for folder in root.glob(f"{SCRATCH_PREFIX}*/"):
        _remove_unlocked(folder, OWNER_LOCK)


def try_lock(path: Path) -> int | None:
    """Takes the lock, or returns None if it is taken. It is held until the descriptor is closed or the process ends."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock while the block runs; waits for it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_unlocked(folder: Path, lock_name: str) -> None:
    with suppress(OSError):  # its owner is removing it at the same time
        lock = try_lock(folder / lock_name)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
