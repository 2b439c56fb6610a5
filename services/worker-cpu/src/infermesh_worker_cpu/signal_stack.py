"""Owns keeping a thread's signal stack as it was. Knows nothing of what changes it.

OpenVINO's CPU plugin gives the thread that loads it a signal stack of its own, and frees it when another thread unloads
it: the next signal that the thread handles, such as Ctrl-C, is then a segmentation fault.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_ON_STACK = 1
"""SS_ONSTACK, which is told and cannot be asked for."""


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """The calling thread has the signal stack after the block that it had before, or none as before."""
    set_stack = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    set_stack(None, ctypes.byref(before))
    before.flags &= ~_ON_STACK
    try:
        yield
    finally:
        set_stack(ctypes.byref(before), None)
