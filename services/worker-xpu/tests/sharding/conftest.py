"""Fixtures: a second rank that lives as long as the session, and runners whose batches both ranks compute."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infermesh_engine.runners.runner import Batch, Logits, RunnerInfo
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.ranks.orders import Release, Run
from infermesh_worker_xpu.sharding.group import Group, join_group, leave_group, prepare_environment

if TYPE_CHECKING:
    from conftest import TinyFolder

OPTIONS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "fp32",
    "kv_cache_bytes": 8 << 20,
    "context_length": 512,
    "threads": 1,
}


class PairRunner:
    """A model on two ranks, of which the test's process is the first."""

    def __init__(self, runner: TorchRunner, link: Connection) -> None:
        self.first = runner
        self._link = link

    @property
    def info(self) -> RunnerInfo:
        return self.first.info

    def run(self, batch: Batch) -> Logits:
        self._link.send(Run(batch))
        return self.first.run(batch)

    def release_blocks(self, blocks: range) -> None:
        self._link.send(Release(blocks))
        self.first.release_blocks(blocks)

    def memory_free_bytes(self) -> int:
        return self.first.memory_free_bytes()

    def close(self) -> None:
        self.first.close()


MakePair = Callable[..., PairRunner]
MakeAlone = Callable[..., TorchRunner]


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Connection, Group]]:
    prepare_environment()
    store = tmp_path_factory.mktemp("ranks") / "store"
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("second_rank.py")), str(theirs.fileno()), str(store)],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": path},
    )
    theirs.close()
    link = Connection(ours.detach())
    yield link, join_group("cpu", store, 0, 2)
    leave_group()
    link.send(None)
    link.close()
    assert process.wait(30) == 0


@pytest.fixture(scope="session")
def pair(second: tuple[Connection, Group], tiny_folder: TinyFolder) -> MakePair:
    """Loads a tiny model, or that of a folder, on two ranks, with the fields of TorchOptions."""
    link, group = second

    def load(model: str | Path, **options: Any) -> PairRunner:
        folder = tiny_folder(model) if isinstance(model, str) else model
        chosen = TorchOptions(**{**OPTIONS, **options})
        link.send((folder, chosen))
        try:
            runner = load_runner(folder, chosen, group=group)
        finally:
            problem = link.recv()
        assert not problem
        return PairRunner(runner, link)

    return load


@pytest.fixture(scope="session")
def alone(tiny_folder: TinyFolder) -> MakeAlone:
    """The same on one rank."""

    def load(model: str | Path, **options: Any) -> TorchRunner:
        folder = tiny_folder(model) if isinstance(model, str) else model
        return load_runner(folder, TorchOptions(**{**OPTIONS, **options}))

    return load
