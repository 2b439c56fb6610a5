"""Binds this process, and all that it starts, to a part of the machine: its threads and its memory."""

import ctypes
import logging
import os
import platform
from pathlib import Path

from infermesh_worker.device.machine_part import MachinePart

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261, "s390x": 270}
"""Number of the system call set_mempolicy, which the C library has no function for."""
_MPOL_BIND = 2
_WORD_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)

_log = logging.getLogger(__name__)


def bind(part: MachinePart) -> None:
    """Binds threads and memory. Both hold for threads and processes that are started from this thread later.

    Memory that the system does not let us bind is logged: bound threads mostly get their node's memory anyway.
    """
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), part.processors)
    if part.node is not None and (problem := bind_memory(part.node)):
        _log.warning("memory is not bound to the NUMA node", extra={"node": part.node, "reason": problem})
    _log.info("bound to a part of the machine", extra={"part": part.words})


def bind_memory(node: int) -> str:
    """Lets this thread take memory of one node only. Returns why it could not, "" if it could.

    Containers often may not: Docker allows the call only with the capability SYS_NICE.
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        return f"the number of the system call on {platform.machine()} is not known"
    mask = (ctypes.c_ulong * (node // _WORD_BITS + 1))()
    mask[node // _WORD_BITS] = 1 << (node % _WORD_BITS)
    library = ctypes.CDLL(None, use_errno=True)
    bits = len(mask) * _WORD_BITS + 1  # the kernel reads one bit less than it is told
    if library.syscall(number, _MPOL_BIND, ctypes.byref(mask), ctypes.c_ulong(bits)) == 0:
        return ""
    return os.strerror(ctypes.get_errno())
