"""Gives memory pages back to the system while their addresses stay reserved. Linux only."""

import ctypes
import mmap

_MADV_DONTNEED = 4
_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def release_pages(address: int, size_bytes: int) -> None:
    """Gives back the whole pages between `address` and `address + size_bytes`, which then read as zeros.

    The memory must be private and belong to no file, as what malloc and numpy allocate. Raises OSError.
    """
    begin = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address + size_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin and _madvise(begin, end - begin, _MADV_DONTNEED) != 0:
        code = ctypes.get_errno()
        raise OSError(code, "the system took no memory pages back")
