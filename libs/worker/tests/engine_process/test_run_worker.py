"""Batches run in threads: each item's end is told in time, and nothing that a model raises loses a thread."""

import threading
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.tensors import Array
from infermesh_worker.engine_process.frames import RequestFailure
from infermesh_worker.engine_process.out_tensors import OutTensors
from infermesh_worker.engine_process.run_frames import WireResult
from infermesh_worker.engine_process.run_worker import BatchEnd, Event, RunWorker
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.executor import Item, Outcome, Result, executor_info
from infermesh_worker.executors.wire_tensors import read, spans_of

MIB = 1 << 20


class Model:
    """Answers as it is told."""

    parallel = 1
    info: RunnerInfo = executor_info(
        device_kind="cpu", device_name="", memory_total_bytes=1, runtime="", weights_bytes=1
    )

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Outcome]]) -> None:
        self.run = run

    def group(self, item: Item) -> Hashable | None:
        return 0

    def size(self, item: Item) -> int:
        return 1

    def memory_free_bytes(self) -> int:
        return 1

    def close(self) -> None:
        pass


def gives(size_bytes: int) -> Callable[[Sequence[Item]], Sequence[Outcome]]:
    return lambda items: [Result(tensors={"y": np.ones(size_bytes, np.uint8)}) for _ in items]


class Bench:
    """A RunWorker whose events a test reads as the loop does."""

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Outcome]]) -> None:
        self.arena = Arena.create(MIB)
        self.out = OutTensors(self.arena)
        self.wakes = 0
        self._woken = threading.Event()
        self.worker = RunWorker(Model(run), self.out.write, self._wake)

    def _wake(self) -> None:
        self.wakes += 1
        self._woken.set()

    def events(self) -> list[Event]:
        """What has happened once something has."""
        assert self._woken.wait(5)
        self._woken.clear()
        return self.worker.events()

    def until_the_end(self) -> list[Event]:
        """All events of the batch that runs; memory is freed as they come."""
        found: list[Event] = []
        while self.worker.running:
            for event in self.events():
                found.append(event)
                if isinstance(event, WireResult):
                    self.out.release(spans_of(event.tensors))
        return found

    def results(self) -> list[WireResult]:
        """All results of the batch that runs, whose memory is kept."""
        found: list[Event] = []
        while self.worker.running:
            found += self.events()
        return [event for event in found if isinstance(event, WireResult)]


def batch(*names: str) -> dict[str, Item]:
    return {name: Item() for name in names}


def test_outputs_that_do_not_fit_together_are_told_one_by_one() -> None:
    bench = Bench(gives(600_000))
    bench.worker.begin(batch("a", "b", "c"))
    ends = bench.until_the_end()
    assert [end.request_id for end in ends if isinstance(end, WireResult) and end.last] == ["a", "b", "c"]
    assert ends[-1] == BatchEnd(3)
    bench.out.close()


def test_small_outputs_of_a_batch_are_told_together() -> None:
    bench = Bench(gives(100))
    bench.worker.begin(batch("a", "b", "c"))
    assert len(bench.until_the_end()) == 4
    assert bench.wakes == 1


class Panic(BaseException):
    """What extension modules in Rust raise."""


@pytest.mark.parametrize("error", [Panic("index out of bounds"), SystemExit(0), KeyboardInterrupt()])
def test_whatever_a_model_raises_ends_its_requests_and_frees_the_thread(error: BaseException) -> None:
    def fails(items: Sequence[Item]) -> Sequence[Outcome]:
        raise error

    bench = Bench(fails)
    bench.worker.begin(batch("a", "b"))
    ends = bench.until_the_end()
    assert [(end.request_id, end.error().reason) for end in ends if isinstance(end, RequestFailure)] == [
        ("a", "INTERNAL"),
        ("b", "INTERNAL"),
    ]
    assert bench.worker.has_room


def test_whatever_happens_to_outputs_ends_their_request_only() -> None:
    class Odd(np.ndarray[tuple[int, ...], np.dtype[np.uint8]]):
        @property
        def dtype(self) -> np.dtype[np.uint8]:
            raise Panic

    odd: Array = np.ones(3, np.uint8).view(Odd)
    bench = Bench(lambda items: [Result(tensors={"y": odd}), Result(tensors={"y": np.ones(3, np.uint8)})])
    bench.worker.begin(batch("a", "b"))
    assert [type(end) for end in bench.until_the_end()] == [RequestFailure, WireResult, BatchEnd]


def test_items_that_run_one_by_one_are_told_before_the_next_run_overwrites_their_outputs() -> None:
    buffer = np.zeros(100_000, np.uint8)
    told_before: list[int] = []

    def runs(items: Sequence[Item]) -> Sequence[Outcome]:
        if len(items) > 1:
            raise ValueError("not together")
        told_before.append(bench.wakes)
        buffer[:] = items[0].params["value"]
        return [Result(tensors={"shared": buffer, "inline": buffer[:5]})]

    bench = Bench(runs)
    bench.worker.begin({name: Item(params={"value": value}) for value, name in enumerate("abc", start=1)})
    answers = {end.request_id: read(bench.arena, end.tensors) for end in bench.results()}
    values = {name: {int(value) for array in answer.values() for value in array} for name, answer in answers.items()}
    assert values == {"a": {1}, "b": {2}, "c": {3}}
    assert told_before == [0, 1, 2]
