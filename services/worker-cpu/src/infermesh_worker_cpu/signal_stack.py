"""Restores a thread's signal stack after code that replaces it.

OpenVINO's CPU plugin gives the thread that loads it a new signal stack, and frees that stack when another thread
unloads the plugin. The next signal that the first thread handles, such as Ctrl-C, then causes a segmentation fault.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_ON_STACK = 1
"""SS_ONSTACK: the kernel reports this flag, but refuses it as input."""


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Gives the calling thread the signal stack back that it had before the block, or none if it had none."""
    set_stack = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    set_stack(None, ctypes.byref(before))
    before.flags &= ~_ON_STACK
    try:
        yield
    finally:
        set_stack(ctypes.byref(before), None)
