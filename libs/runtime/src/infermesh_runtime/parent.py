"""Owns the promise that a child process does not outlive its parent. Knows nothing of what the child does.

Imports as little as it can: it is on the path of every process's start.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends, and ends it at once when the parent is already gone.

    The parent is the thread that started this process, so it must be started from a thread that lives as long as the
    parent process (the main thread). The promise outlives exec. Raises OSError when the kernel refuses, and SystemExit.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before prctl; then this process has been given another parent and no signal will come.
    if os.getppid() != parent_pid:
        raise SystemExit(f"the parent process {parent_pid} is gone")
