"""The process of a rank that is not the first. It ends with rank 0, also while it still imports torch.

Rank 0 starts it as `python -m infermesh_worker_xpu.ranks.follower --fd N --parent PID`.
"""

import argparse
import os
import signal
import sys
from multiprocessing.connection import Connection

from infermesh_runtime.processes.parent import die_with


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="infermesh_worker_xpu.ranks.follower", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the inherited socket to rank 0")
    parser.add_argument("--parent", type=int, required=True, help="process id of rank 0; ends with it")
    options = parser.parse_args()
    die_with(options.parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # the front decides when to stop; rank 0 tells us
        signal.signal(number, signal.SIG_IGN)
    from infermesh_worker_xpu.ranks.following import follow  # noqa: PLC0415 - takes seconds

    status = follow(Connection(options.fd))
    sys.stderr.flush()
    os._exit(status)  # skips destructors of libraries that could wait for other ranks


if __name__ == "__main__":
    main()
