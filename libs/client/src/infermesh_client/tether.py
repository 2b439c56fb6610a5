"""Owns `python -m infermesh_client.tether --parent PID -- COMMAND...`: runs a command that dies with its parent.

The command replaces this process. The kernel sends it SIGKILL when the parent ends, however that happens, so a killed
supervisor leaves no orphans. Knows nothing of what it runs. Imports as little as it can: it is on every start's path.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
USAGE = "usage: python -m infermesh_client.tether --parent PID -- COMMAND..."


def die_with_parent(parent_pid: int) -> None:
    """Ties this process to `parent_pid`, its parent. Raises OSError when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before prctl; then this process has been given another parent and no signal will come.
    if os.getppid() != parent_pid:
        sys.exit(f"tether: the parent {parent_pid} is gone")


def main(arguments: list[str]) -> None:
    """Parses the arguments and becomes the command; exits with 2 on a usage error and 127 when it cannot be run."""
    match arguments:
        case ["--parent", pid, "--", *command] if pid.isdecimal() and command:
            die_with_parent(int(pid))
        case _:
            print(USAGE, file=sys.stderr)
            sys.exit(2)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"tether: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
