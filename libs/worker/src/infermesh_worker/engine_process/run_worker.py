"""Runs batches of items in threads, so that several can be on the device, and puts their results into wire form."""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infermesh_runtime.errors import InfermeshError, Internal, ResourceExhausted
from infermesh_runtime.tensors import Array
from infermesh_worker.engine_process.frames import RequestFailure
from infermesh_worker.engine_process.run_frames import WireResult
from infermesh_worker.executors.executor import Executor, Item, Outcome, Result
from infermesh_worker.executors.wire_tensors import WireTensor

_log = logging.getLogger(__name__)

Share = Callable[[Mapping[str, Array]], list[WireTensor]]
"""Copies tensors to where the front reads them. Raises ResourceExhausted."""


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """A batch has ended: what became of each item."""

    ends: Sequence[WireResult | RequestFailure]


@dataclass(frozen=True, slots=True)
class Alive:
    """A run goes on."""


class RunWorker:
    """Threads that run batches. All methods but `emit` and `alive` are for one thread, the loop's."""

    def __init__(self, executor: Executor, share: Share, wake: Callable[[], None]) -> None:
        """`wake` is called, in any thread, when `events` has something new."""
        self._executor = executor
        self._share = share
        self._wake = wake
        self._threads = ThreadPoolExecutor(executor.parallel, thread_name_prefix="run")
        self._events: deque[WireResult | BatchEnd | Alive] = deque()
        self.running = 0
        """How many batches run."""

    @property
    def has_room(self) -> bool:
        """Whether another batch can begin at once."""
        return self.running < self._executor.parallel

    def begin(self, batch: Mapping[str, Item]) -> None:
        """Runs a batch: items by request id."""
        self.running += 1
        self._threads.submit(self._run, batch)

    def emit(self, request_id: str, part: Result) -> None:
        """Takes a part of an answer from the thread that runs its item."""
        self._tell(self._wire(request_id, part, last=False))

    def alive(self) -> None:
        """Takes a sign of life from a thread that runs a batch."""
        self._tell(Alive())

    def events(self) -> list[WireResult | BatchEnd | Alive]:
        """What has happened since the last call: parts of answers, ends of batches, and signs of life."""
        found = [self._events.popleft() for _ in range(len(self._events))]
        self.running -= sum(isinstance(event, BatchEnd) for event in found)
        return found

    def _run(self, batch: Mapping[str, Item]) -> None:
        outcomes = run_batch(self._executor, list(batch.values()))
        self._tell(BatchEnd([self._end(*pair) for pair in zip(batch, outcomes, strict=True)]))

    def _end(self, request_id: str, outcome: Outcome) -> WireResult | RequestFailure:
        if isinstance(outcome, InfermeshError):
            return RequestFailure.of(request_id, outcome)
        try:
            return self._wire(request_id, outcome, last=True)
        except Exception as error:  # the outputs are too large, or no tensors: the other items have theirs
            return RequestFailure.of(request_id, _as_error(error))

    def _wire(self, request_id: str, result: Result, *, last: bool) -> WireResult:
        return WireResult(request_id, dict(result.params), self._share(result.tensors), last)

    def _tell(self, event: WireResult | BatchEnd | Alive) -> None:
        self._events.append(event)
        self._wake()


def run_batch(executor: Executor, items: Sequence[Item]) -> Sequence[Outcome]:
    """The outcome of each item. If they fail together, each is run again by itself."""
    try:
        return [outcome for _, outcome in zip(items, executor.run(items), strict=True)]
    except Exception as error:  # a bug that one item triggers must not end the others
        if len(items) > 1:
            return [outcome for item in items for outcome in run_batch(executor, [item])]
        return [_as_error(error)]


def _as_error(error: Exception) -> InfermeshError:
    if isinstance(error, InfermeshError):
        return error
    if isinstance(error, MemoryError):
        return ResourceExhausted("The device has too little memory for this request.", reason="OUT_OF_MEMORY")
    _log.error("could not run a request", exc_info=error)
    return Internal("Internal error in the model.")
