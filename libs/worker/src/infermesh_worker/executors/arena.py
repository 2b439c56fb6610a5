"""Memory that the front and an engine process share for large tensors. One side writes it, the other only reads it.

The writer decides what is where (`space`). It is an anonymous file (memfd), which the system frees when both processes
have ended; pages that were never written take no memory.
"""

import ctypes
import mmap
import os
from typing import Self

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.space import Space

INLINE_BYTES = 64 * 1024
"""Tensors of fewer bytes travel through the socket."""
KEPT_BYTES = 64 << 20
"""Written memory that is kept for the next tensors when all are freed: taking it from the system again costs time."""
GIVEN_BACK_BYTES = 8 << 20
"""The most that is given back at once, since that happens on an event loop: 8 MiB take about a millisecond."""

_CLOSED = -1
"""In place of the file's descriptor."""
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 0x01, 0x02


class Arena:
    """A mapped anonymous file, and, for the side that writes it, which parts of it are taken."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        """Takes ownership of the file, which has `size_bytes`."""
        self._fd = fd
        self._memory = np.frombuffer(mmap.mmap(fd, size_bytes), np.uint8)
        self.space = Space(size_bytes)
        self._written_bytes = 0
        """Nothing beyond it has been written since memory was last given back."""
        self.copies = 0
        """How many tensors were copied into it, for tests."""

    @classmethod
    def create(cls, size_bytes: int) -> Self:
        """A new one, without content."""
        fd = os.memfd_create("infermesh-tensors", os.MFD_CLOEXEC)
        os.ftruncate(fd, size_bytes)
        return cls(fd, size_bytes)

    @classmethod
    def of_file(cls, fd: int) -> Self:
        """One that another process has made; takes ownership of the file."""
        return cls(fd, os.fstat(fd).st_size)

    @property
    def fd(self) -> int:
        """The file's descriptor; -1 once it is closed."""
        return self._fd

    def write(self, begin: int, data: Array) -> None:
        """Copies the elements of a contiguous array to the span that begins there. Other threads run meanwhile."""
        flat = data.reshape(-1).view(np.uint8)
        np.copyto(self._memory[begin : begin + flat.size], flat)
        self._written_bytes = max(self._written_bytes, begin + flat.size)
        self.copies += 1

    def view(self, begin: int, size_bytes: int) -> Array:
        """The bytes of a span, not to be written by who reads them. Raises ValueError if they are not all inside."""
        if begin < 0 or size_bytes < 0 or begin + size_bytes > self._memory.size:
            raise ValueError(f"bytes {begin} to {begin + size_bytes} are outside of the shared memory")
        return self._memory[begin : begin + size_bytes]

    def free(self, begin: int) -> None:
        """Frees a span, also after `close`.

        Whenever none is taken any more, GIVEN_BACK_BYTES of the memory beyond KEPT_BYTES go back to the system.
        """
        self.space.free(begin)
        if self._fd != _CLOSED and not self.space.taken and self._written_bytes > KEPT_BYTES:
            end, self._written_bytes = self._written_bytes, max(KEPT_BYTES, self._written_bytes - GIVEN_BACK_BYTES)
            self._give_back(self._written_bytes, end - self._written_bytes)

    def close(self) -> None:
        """Closes the file. The memory stays mapped while views of it are in use."""
        fd, self._fd = self._fd, _CLOSED  # the next file that is opened gets the same number
        os.close(fd)

    def _give_back(self, begin: int, size_bytes: int) -> None:
        fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
        if fallocate is not None:
            mode = ctypes.c_int(_FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE)
            fallocate(self._fd, mode, ctypes.c_long(begin), ctypes.c_long(size_bytes))
