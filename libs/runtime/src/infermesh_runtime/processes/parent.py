"""Makes sure that a child process does not outlive its parent.

It imports as little as possible, because every child process imports it first.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Makes the kernel kill this process when its parent ends. Raises SystemExit if the parent has already ended.

    To the kernel the parent is the thread that started this process, so start it from a thread that lives as long as
    the parent process, such as the main thread. This survives exec. Raises OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # If the parent died before prctl, this process has another parent by now and will get no signal.
    if os.getppid() != parent_pid:
        raise SystemExit(f"the parent process {parent_pid} has ended")
