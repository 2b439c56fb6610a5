"""What rank 0 raises when another rank fails or dies: with the other's reason, and never as if it could go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest

from infermesh_engine.runners.runner import Batch, RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, ResourceExhausted
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.ranks import crew as crews
from infermesh_worker_xpu.ranks.crew import Crew, RankLostError
from infermesh_worker_xpu.ranks.leader import RanksRunner
from infermesh_worker_xpu.ranks.orders import Membership

if TYPE_CHECKING:
    from infermesh_worker_xpu.execution.runner import TorchRunner

FOLLOWER = """
import sys
from multiprocessing.connection import Connection
from infermesh_worker_xpu.ranks.orders import Failed

link = Connection(int(sys.argv[1]))
link.recv()
{act}
"""
NO_MEMORY = "link.recv(); link.send(Failed('', 'no memory left', 8, 'OUT_OF_MEMORY'))"
DIES = "import os, signal; link.recv(); os.kill(os.getpid(), signal.SIGKILL)"
BATCH = cast("Batch", np.zeros(1))
"""What the stubs take for one."""
MEMBERSHIP = Membership(
    rank=1, size=2, kind="cpu", store=Path("store"), folder=Path("folder"), options=TorchOptions(), part=None,
    log_level="INFO",
)  # fmt: skip
StartCrew = Callable[[str], Crew]


class Rank0:
    """The part of the first rank, whose collectives fail as another rank ends."""

    info = cast("RunnerInfo", None)

    def __init__(self, lost: Callable[[], object], error: Exception) -> None:
        self._lost, self._error = lost, error

    def run(self, _batch: Batch) -> Any:
        self._lost()
        raise self._error


@pytest.fixture
def start_crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartCrew]:
    """Starts a crew of one stub of a follower, which acts when it gets its first order."""
    started: list[Crew] = []

    def start(act: str) -> Crew:
        def spawn(fd: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", FOLLOWER.format(act=act), str(fd)], pass_fds=[fd])

        monkeypatch.setattr(crews, "_spawn", spawn)
        started.append(Crew.start([MEMBERSHIP]))
        return started[-1]

    yield start
    for crew in started:
        crew.close()


def runner_of(crew: Crew, error: Exception) -> RanksRunner:
    """A runner whose first rank notices the other's end, as its collectives do, and raises an error."""
    return RanksRunner(cast("TorchRunner", Rank0(lambda: crew._lost.wait(30), error)), crew, Rank0.info)


def test_a_rank_without_memory_is_lost_and_no_batch_that_is_too_large(start_crew: StartCrew) -> None:
    assert grpc.StatusCode.RESOURCE_EXHAUSTED.value[0] == 8
    runner = runner_of(start_crew(NO_MEMORY), RuntimeError("Connection closed by peer"))
    with pytest.raises(RankLostError, match="a rank cannot go on: no memory left"):
        runner.run(BATCH)


def test_rank_0_without_memory_is_lost_too(start_crew: StartCrew) -> None:
    crew = start_crew("link.recv()")
    runner = RanksRunner(cast("TorchRunner", Rank0(lambda: None, ResourceExhausted("full"))), crew, Rank0.info)
    with pytest.raises(RankLostError, match="full"):
        runner.run(BATCH)


def wrapped(error: Exception) -> InfermeshError:
    """A refusal as the loading of weights makes of an error that it does not know."""
    try:
        raise FailedPrecondition("its code fails in a trial", reason="MODEL_NOT_SUPPORTED") from error
    except FailedPrecondition as refusal:
        return refusal


def test_a_refusal_that_wraps_the_error_of_a_collective_is_the_other_ranks_death(start_crew: StartCrew) -> None:
    crew = start_crew(DIES)
    crew.tell(cast("Any", BATCH))
    cause = crew.cause(wrapped(RuntimeError("Connection closed by peer")))
    assert isinstance(cause, RankLostError)
    assert "rank 1 was killed by SIGKILL" in str(cause)


def test_a_refusal_of_rank_0s_own_is_told_at_once(start_crew: StartCrew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "END_S", 1e6)  # to wait for another rank would take for ever
    refusal = FailedPrecondition("no", reason="MODEL_NOT_SUPPORTED")
    assert start_crew("link.recv()").cause(refusal) is refusal
