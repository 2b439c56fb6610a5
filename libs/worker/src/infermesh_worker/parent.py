"""Owns the promise that a child process does not outlive its parent. Knows nothing of what the child does."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends, and ends it at once when the parent is already gone.

    The parent is the thread that started this process, so it must be started from a thread that lives as long as the
    parent process (the main thread).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    if os.getppid() != parent_pid:
        raise SystemExit(0)


def ignore_stop_signals() -> None:
    """Leaves SIGINT and SIGTERM to the parent: a signal to the whole process group must not cut running streams."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
