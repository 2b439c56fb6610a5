"""Rank 0 of a test, which loads for ever while a stub of a follower fails, as the build function of an engine."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.ranks import crew
from infermesh_worker_xpu.ranks.orders import Membership

REPOSITORY = Path(__file__).parents[2]
FOLLOWER = """
import sys
from multiprocessing.connection import Connection
from infermesh_worker_xpu.ranks.orders import Failed

link = Connection(int(sys.argv[1]))
link.recv()
"""


def membership(rank: int = 1) -> Membership:
    return Membership(
        rank=rank,
        size=2,
        kind="cpu",
        store=Path("store"),
        folder=Path("folder"),
        options=TorchOptions(),
        part=None,
        log_level="INFO",
    )


def spawn_stub(act: str, fd: int) -> "subprocess.Popen[bytes]":
    """Starts a follower that acts after it was told its membership."""
    return subprocess.Popen([sys.executable, "-c", FOLLOWER + act, str(fd)], pass_fds=[fd])


def build(options: Mapping[str, Any]) -> NoReturn:
    crew._spawn = lambda fd, store: spawn_stub(options["act"], fd)
    crew.END_S = 0.2
    started = crew.Crew.start([membership()], store=-1)
    threading.Event().wait()
    raise AssertionError(started)
