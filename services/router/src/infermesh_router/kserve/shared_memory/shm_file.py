"""Opens a POSIX shared memory object by its key, and reads and writes it within its size.

Nothing is mapped: a client may shorten its object at any time, and touching a mapping beyond its end would kill the
router. A read beyond the end is short instead, and the bytes are copied once either way.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infermesh_runtime.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
_MAX_KEY_BYTES = 255


class ShmFile:
    """An open object. It is closed when nobody holds it any more, so never while it is being read."""

    def __init__(self, descriptor: int, key: str) -> None:
        self._descriptor = descriptor
        self._key = key

    def __del__(self) -> None:
        os.close(self._descriptor)

    def size_bytes(self) -> int:
        """Its size now."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size_bytes: int) -> bytes:
        """These bytes, at most 2 GiB - 4 KiB, which is what one call reads: callers read no more than a message holds.

        Raises InvalidArgument if the object has become shorter, and ResourceExhausted if the system cannot read it.
        """
        with self._refused("read"):
            data = os.pread(self._descriptor, size_bytes, offset)
        if len(data) != size_bytes:
            raise self._shorter(offset + size_bytes)
        return data

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes these bytes.

        Raises InvalidArgument if the object has become shorter, and ResourceExhausted if the system cannot write it:
        an object may be longer than the memory that it has.
        """
        if self.size_bytes() < offset + len(data):
            raise self._shorter(offset + len(data))
        view = memoryview(data)
        while view:
            with self._refused("written"):
                written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    @contextmanager
    def _refused(self, verb: str) -> Iterator[None]:
        """Says in words what the system refuses."""
        try:
            yield
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise ResourceExhausted(
                f"The shared memory object '{self._key}' cannot be {verb}: {why}.", reason="SHARED_MEMORY_EXHAUSTED"
            ) from None

    def _shorter(self, needed: int) -> InvalidArgument:
        return InvalidArgument(
            f"The shared memory object '{self._key}' has {self.size_bytes()} bytes; byte {needed} is beyond its end.",
            reason="BAD_SHARED_MEMORY",
        )


def open_shm(key: str, *, folder: Path = FOLDER) -> ShmFile:
    """Opens the object of a key. Raises InvalidArgument, NotFound or PermissionDenied.

    The key is a file's name, without a path. The file must be a regular one of this user, and not a link.
    """
    name = key.removeprefix("/")
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > _MAX_KEY_BYTES:
        raise _invalid(key, "must be the name of a shared memory object, without slashes but for one in front")
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # without waiting, if it is a pipe
    try:
        descriptor = os.open(folder / name, flags)
    except FileNotFoundError:
        raise NotFound(f"There is no shared memory object '{key}' on the router's machine.") from None
    except PermissionError:
        raise _denied(key) from None
    except OSError:
        raise _invalid(key, "does not name a shared memory object") from None
    opened, facts = ShmFile(descriptor, key), os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise _invalid(key, "does not name a shared memory object")
    if facts.st_uid != os.geteuid():
        raise _denied(key)
    return opened


def _invalid(key: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"The key '{key[:80]}' {problem}.", reason="BAD_SHARED_MEMORY", fields={"key": problem})


def _denied(key: str) -> PermissionDenied:
    return PermissionDenied(
        f"The shared memory object '{key}' belongs to another user than the router.", reason="SHARED_MEMORY_NOT_ALLOWED"
    )
