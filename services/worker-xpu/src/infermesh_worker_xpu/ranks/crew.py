"""Starts the ranks after the first, sends them orders, and notices when one of them fails or dies."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Self

from infermesh_runtime.errors import InfermeshError, from_code
from infermesh_worker.engine_client.engine_link import describe_exit
from infermesh_worker.engine_process.crash import EXIT_CRASHED, crash_reporter
from infermesh_worker_xpu.ranks.orders import Failed, Membership, Order

END_S = 5.0
"""How long this process may take to end by itself after another rank's end; then it is ended. A device's collective
may wait for the lost rank for minutes."""

_log = logging.getLogger(__name__)


class RankLostError(RuntimeError):
    """A rank has failed or died, so the model cannot be computed any more."""


class Crew:
    """The processes of the ranks after the first. One thread gives orders; another watches."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._links: list[Connection] = []
        self._lost = threading.Event()
        self._failure: Exception | None = None
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        self._report = crash_reporter()

    @classmethod
    def start(cls, memberships: Sequence[Membership], store: int) -> Self:
        """Starts a process for each, which inherits the descriptor `store`. Raises OSError.

        Call it in the main thread: the kernel kills them when the thread ends that started them.
        """
        crew = cls()
        try:
            for membership in memberships:
                ours, theirs = socket.socketpair()
                with theirs:
                    crew._links.append(Connection(ours.detach()))
                    crew._processes.append(_spawn(theirs.fileno(), store))
                crew._links[-1].send(membership)
        except OSError:
            crew.close()
            raise
        crew._watcher = threading.Thread(target=crew._watch, name="ranks", daemon=True)
        crew._watcher.start()
        return crew

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._processes]

    def tell(self, order: Order) -> None:
        """Sends an order to every rank. Raises OSError when one is gone."""
        for link in self._links:
            link.send(order)

    def cause(self, error: Exception) -> Exception:
        """What to raise for an error of this rank: the failure of another rank, if that came first.

        Only a refusal of this rank's own is certain to be none of another rank's end: one that wraps another error may
        wrap that of a collective.
        """
        expected = isinstance(error, InfermeshError) and error.__cause__ is None
        self._lost.wait(0.0 if expected else END_S / 2)  # the connections of a dying rank close one after another
        return self._failure or error

    def close(self) -> None:
        """Ends all of them."""
        self._closed.set()
        for process in self._processes:
            process.kill()
            process.wait()
        if self._watcher is not None:
            self._watcher.join()  # a rank's end wakes it
        for link in self._links:
            link.close()

    def _watch(self) -> None:
        """Waits for the failure or death of a rank. If this process survives it for long, ends this process."""
        number, failure = self._first()
        if self._closed.is_set():
            return
        self._failure = failure
        self._lost.set()
        _log.error("a rank was lost; the model ends", extra={"rank": number + 1, "reason": str(failure)})
        if not self._closed.wait(END_S):
            self._end(failure)

    def _end(self, failure: Exception) -> None:
        """Ends this process, whose main thread is busy or waits; tells the front why, if the front listens."""
        threading.Timer(END_S, os._exit, (EXIT_CRASHED,)).start()
        try:
            self._report(failure)
        finally:
            os._exit(EXIT_CRASHED)

    def _first(self) -> tuple[int, Exception]:
        """The rank that was lost first, and why. What may follow from another's end gives it a moment to show."""
        doubtful: list[tuple[int, Exception]] = []
        for number in self._lost_ranks():
            failure, certain = self._failure_of(number)
            if certain:
                return number, failure
            doubtful.append((number, failure))
        return doubtful[0]

    def _lost_ranks(self) -> Iterator[int]:
        """The numbers of ranks as they are lost: those within END_S / 4 of the first."""
        left = {link: number for number, link in enumerate(self._links)}
        due_s: float | None = None
        while left and (ready := wait(list(left), None if due_s is None else max(0.0, due_s - time.monotonic()))):
            due_s = due_s or time.monotonic() + END_S / 4
            for link in ready:
                yield left.pop(link)  # type: ignore[call-overload] # wait returns what it was given

    def _failure_of(self, number: int) -> tuple[Exception, bool]:
        """Why a rank was lost, and whether that follows from no other rank's end for certain."""
        try:
            failed: Failed = self._links[number].recv()
        except (EOFError, OSError):
            status = self._processes[number].wait()
            how = describe_exit(status).removeprefix("the engine process ")
            return RankLostError(f"rank {number + 1} {how}"), True
        if failed.kind:
            return RankLostError(f"rank {number + 1} failed: {failed.kind}: {failed.message}"), False
        return from_code(failed.code, failed.message, reason=failed.reason), failed.own


def _spawn(fd: int, store: int) -> subprocess.Popen[bytes]:
    arguments = ["--fd", str(fd), "--parent", str(os.getpid())]
    command = [sys.executable, "-m", "infermesh_worker_xpu.ranks.follower", *arguments]
    return subprocess.Popen(command, pass_fds=[fd, store], stdin=subprocess.DEVNULL)
