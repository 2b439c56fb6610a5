"""What rank 0 raises when another rank fails or dies: with the other's reason, and never as if it could go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest

from infermesh_engine.runners.runner import Batch, RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, ResourceExhausted
from infermesh_worker.engine_client.engine_link import EngineEnd, EngineLink
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker_xpu.ranks import crew as crews
from infermesh_worker_xpu.ranks.crew import Crew, RankLostError
from infermesh_worker_xpu.ranks.leader import RanksRunner
from tests.architectures.loading_rank import REPOSITORY, membership, spawn_stub

if TYPE_CHECKING:
    from infermesh_worker_xpu.execution.runner import TorchRunner

NO_MEMORY = "link.recv(); link.send(Failed('', 'no memory left', 8, 'OUT_OF_MEMORY'))"
DIES = "import os, signal; link.recv(); os.kill(os.getpid(), signal.SIGKILL)"
BATCH = cast("Batch", np.zeros(1))
"""What the stubs take for one."""
StartCrew = Callable[..., Crew]


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
    """Starts a crew of stubs of followers, each of which acts when it was told its membership."""
    monkeypatch.setattr(crews, "END_S", 60.0)  # stubs may start late
    started: list[Crew] = []

    def start(*acts: str) -> Crew:
        left = list(acts)
        monkeypatch.setattr(crews, "_spawn", lambda fd, _store: spawn_stub(left.pop(0), fd))
        started.append(Crew.start([membership(rank + 1) for rank in range(len(acts))], store=-1))
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
        raise FailedPrecondition("its code fails in a trial", reason="MODEL_NOT_SUPPORTED") from error  # noqa: TRY301
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


FOLLOWS = "link.send(Failed('', 'its code fails in a trial', 9, 'MODEL_NOT_SUPPORTED')); link.recv()"
REFUSES = "link.send(Failed('', 'no such device', 9, 'DEVICE_NOT_AVAILABLE', own=True)); link.recv()"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ((FOLLOWS, KILLED), "rank 2 was killed by SIGKILL"),
        ((FOLLOWS, REFUSES), "no such device"),
        ((FOLLOWS, "link.recv()"), "its code fails in a trial"),
    ],
    ids=["death", "refusal", "nothing else"],
)
def test_the_failure_that_others_follow_from_is_told(
    acts: tuple[str, ...], expected: str, start_crew: StartCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = start_crew(*acts)
    if "link.recv()" in acts:
        monkeypatch.setattr(crews, "END_S", 8.0)  # nothing else comes: see that in END_S / 4
    crew._lost.wait(30)
    assert expected in str(crew.cause(RuntimeError("Connection closed by peer")))


async def end_of_a_load(act: str, monkeypatch: pytest.MonkeyPatch) -> EngineEnd:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    start = StartCommand(options={"act": act}, max_sequences=1, max_batched_tokens=1, prefix_caching=False)
    link = await EngineLink.start("tests.architectures.loading_rank:build", start, lambda _: None)
    try:
        async with asyncio.timeout(60):
            return await link.ended()
    finally:
        link.kill()
        link.close()


async def test_a_refusal_while_rank_0_loads_is_told_and_is_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    end = await end_of_a_load(REFUSES, monkeypatch)
    assert (end.reason, end.permanent, end.error_reason) == ("no such device", True, "DEVICE_NOT_AVAILABLE")


async def test_a_death_while_rank_0_loads_is_told_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    end = await end_of_a_load(KILLED, monkeypatch)
    assert (end.reason, end.permanent) == ("RankLostError: rank 1 was killed by SIGKILL", False)
