"""The second rank of the tests: loads one model after another with the test's process, and computes its batches."""

import sys
from multiprocessing.connection import Connection
from pathlib import Path

from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.ranks.following import obey
from infermesh_worker_xpu.ranks.orders import Release, Run
from infermesh_worker_xpu.sharding.group import join_group


def main() -> None:
    """Entry point: file descriptor of the socket to the test, and the file through which the ranks meet."""
    link = Connection(int(sys.argv[1]))
    group = join_group("cpu", Path(sys.argv[2]), 1, 2)
    runner: TorchRunner | None = None
    while True:
        match link.recv():
            case (folder, options):
                try:
                    runner = load_runner(folder, options, group=group)
                    link.send("")
                except Exception as error:
                    link.send(str(error))
            case Run() | Release() as order if runner is not None:
                obey(runner, order)
            case None:
                return


if __name__ == "__main__":
    main()
