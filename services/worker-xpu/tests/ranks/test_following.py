"""A follower computes what rank 0 does, and leaves the host's work to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from infermesh_worker_xpu.ranks.following import obey
from infermesh_worker_xpu.ranks.orders import Order, Release, Run

if TYPE_CHECKING:
    from conftest import Feed, MakeRunner
    from infermesh_engine.runners.runner import Batch
    from infermesh_worker_xpu.execution.runner import TorchRunner


class Recorder:
    """Stands for a rank's runner."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def launch(self, _batch: Batch) -> None:
        self.calls.append("launch")

    def release_blocks(self, blocks: range) -> None:
        self.calls.append(f"release {blocks}")


def test_no_follower_chooses_the_largest_logits() -> None:
    recorder = Recorder()
    orders: list[Order] = [Run(cast("Batch", None)), Release(range(2))]
    for order in orders:
        obey(cast("TorchRunner", recorder), order)
    assert recorder.calls == ["launch", "release range(0, 2)"]


def test_what_a_follower_computes_is_in_its_cache(tiny_runner: MakeRunner, feed: type[Feed]) -> None:
    runner = tiny_runner("llama")
    ids = np.random.default_rng(3).integers(3, 160, 40)
    expected, found = (feed(runner, [ids]) for _ in range(2))
    expected.run({0: 39})
    logits = expected.run({0: 1})[0]
    batch = found.batch({0: 39})
    runner.release_blocks(range(runner.info.num_blocks))
    obey(runner, Run(batch))
    found.done[0] = 39
    assert np.array_equal(found.run({0: 1})[0], logits)
    runner.close()
