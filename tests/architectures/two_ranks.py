"""Runs models on two ranks: the test's process, and another that loads one model after another with it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from infermesh_engine.runners.runner import Batch, Logits, RunnerInfo
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.ranks.orders import Release, Run
from infermesh_worker_xpu.ranks.store import open_store, store_path
from infermesh_worker_xpu.sampling.device_sampler import TorchLaunch
from infermesh_worker_xpu.sharding.group import Group, join_group, leave_group, prepare_environment

OPTIONS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "fp32",
    "kv_cache_bytes": 8 << 20,
    "context_length": 512,
    "threads": 1,
}
_REPOSITORY = Path(__file__).parents[2]


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

    def launch(self, batch: Batch) -> TorchLaunch:
        self._link.send(Run(batch))
        return self.first.launch(batch)

    def release_blocks(self, blocks: range) -> None:
        self._link.send(Release(blocks))
        self.first.release_blocks(blocks)

    def memory_free_bytes(self) -> int:
        return self.first.memory_free_bytes()

    def close(self) -> None:
        self.first.close()


@dataclass(frozen=True, slots=True)
class TwoRanks:
    """The two processes."""

    link: Connection
    group: Group

    def load(self, folder: Path, **options: Any) -> PairRunner:
        """Loads a model on both, with the fields of TorchOptions. Raises what the first rank does."""
        chosen = TorchOptions(**{**OPTIONS, **options})
        self.link.send((folder, chosen))
        try:
            runner = load_runner(folder, chosen, group=self.group)
        finally:
            problem = self.link.recv()
        assert not problem
        return PairRunner(runner, self.link)


@contextmanager
def two_ranks() -> Iterator[TwoRanks]:
    """Starts the second rank, which ends with the test's process."""
    prepare_environment()
    ours, theirs = socket.socketpair()
    inherited = open_store()
    store = store_path(inherited)
    command = [sys.executable, "-m", "tests.architectures.second_rank", str(theirs.fileno()), str(store)]
    path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(command, pass_fds=[theirs.fileno(), inherited], env={**os.environ, "PYTHONPATH": path})
    theirs.close()
    with Connection(ours.detach()) as link:
        yield TwoRanks(link, join_group("cpu", store, 0, 2))
        leave_group()
        link.send(None)
    assert process.wait(30) == 0
