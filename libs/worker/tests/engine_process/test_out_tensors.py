"""A reader that has stopped holds its share of the results' memory and one thread, and nothing of others."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
import pytest

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import Cancelled
from infermesh_worker.engine_process import out_tensors
from infermesh_worker.engine_process.frames import RequestFailure
from infermesh_worker.engine_process.out_tensors import OutTensors
from infermesh_worker.engine_process.run_frames import WireResult
from infermesh_worker.engine_process.run_worker import Alive, BatchEnd, Event, RunWorker
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.executor import Item, Outcome, Result, executor_info
from infermesh_worker.executors.wire_tensors import spans_of

CAPACITY, PIECE = 1 << 20, 1 << 17
SHARE = CAPACITY // (2 * 2) // PIECE
"""Pieces of a request that may be unread."""


class Streams:
    """Emits as many pieces as it is told, and ends."""

    parallel = 2
    info: RunnerInfo = executor_info(
        device_kind="cpu", device_name="", memory_total_bytes=1, runtime="", weights_bytes=1
    )

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        (item,) = items
        for _ in range(item.params["pieces"]):
            item.emit(Result(tensors={"samples": np.ones(item.params["size"], np.uint8)}))
        return [Result()]

    def group(self, item: Item) -> Hashable | None:
        return None

    def size(self, item: Item) -> int:
        return 1

    def memory_free_bytes(self) -> int:
        return 1

    def close(self) -> None:
        pass


class Bench:
    """Two threads that stream pieces; a test reads their events as the loop does."""

    def __init__(self) -> None:
        self.out = OutTensors(Arena.create(CAPACITY), parallel=2)
        self.cancelled: set[str] = set()
        self._woken = threading.Event()
        self.worker = RunWorker(Streams(), self.out.write, self._woken.set, self.cancelled.__contains__)

    def begin(self, name: str, pieces: int, size: int = PIECE) -> None:
        params = {"pieces": pieces, "size": size}
        self.worker.begin({name: Item(params=params, emit=lambda part: self.worker.emit(name, part))})

    def until(self, enough: Callable[[Sequence[Event]], bool], *, reads: str = "") -> list[Event]:
        """The events until there are enough. What the request `reads` has got is read at once."""
        found: list[Event] = []
        while not enough(found):
            assert self._woken.wait(10)
            self._woken.clear()
            for event in self.worker.events():
                found.append(event)
                if isinstance(event, WireResult) and event.request_id == reads:
                    self.out.release(spans_of(event.tensors))
        return found


def ended(found: Sequence[Event]) -> bool:
    return any(isinstance(event, BatchEnd) for event in found)


def waits(found: Sequence[Event]) -> bool:
    """Whether a writer has waited and said so several times."""
    return sum(isinstance(event, Alive) for event in found) >= 3


def parts(found: Sequence[Event], name: str) -> list[WireResult]:
    return [event for event in found if isinstance(event, WireResult) and event.request_id == name]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(out_tensors, "PULSE_S", 0.01)
    made = Bench()
    yield made
    made.out.close()


def test_a_stream_that_is_not_read_holds_its_share_and_says_that_it_lives(bench: Bench) -> None:
    bench.begin("stopped", 20)
    found = bench.until(waits)
    assert len(parts(found, "stopped")) == SHARE
    bench.begin("other", 30)
    found = bench.until(ended, reads="other")
    assert len(parts(found, "other")) == 31
    assert not parts(found, "stopped")


def test_it_goes_on_when_it_is_read(bench: Bench) -> None:
    bench.begin("slow", 20)
    first = parts(bench.until(waits), "slow")
    bench.out.release([span for part in first for span in spans_of(part.tensors)])
    rest = parts(bench.until(ended, reads="slow"), "slow")
    assert len(first) + len(rest) == 21
    assert (bench.out._unread, bench.out._owners) == ({}, {})


def test_a_piece_that_is_larger_than_the_share_goes_by_itself(bench: Bench) -> None:
    bench.begin("large", 3, CAPACITY // 2)
    found = bench.until(waits)
    assert len(parts(found, "large")) == 1
    bench.out.release(spans_of(parts(found, "large")[0].tensors))
    assert len(parts(bench.until(ended, reads="large"), "large")) == 3  # two pieces and the end


def test_a_cancelled_request_frees_its_thread(bench: Bench) -> None:
    bench.begin("stopped", 20)
    bench.until(waits)
    bench.cancelled.add("stopped")
    failures = [event for event in bench.until(ended) if isinstance(event, RequestFailure)]
    assert [type(failure.error()) for failure in failures] == [Cancelled]
    assert bench.worker.running == 0


def test_a_full_memory_wakes_who_waits_for_it_too(bench: Bench) -> None:
    bench.begin("full", 1, CAPACITY - 64)
    (first, *_) = parts(bench.until(ended), "full")
    bench.begin("after", 1)
    assert not parts(bench.until(waits), "after")
    bench.out.release(spans_of(first.tensors))
    assert len(parts(bench.until(ended), "after")) == 2
