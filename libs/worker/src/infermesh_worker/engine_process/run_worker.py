"""Runs batches of items in threads, so that several can be on the device, and puts their results into wire form."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infermesh_runtime.errors import Cancelled, InfermeshError, Internal, ResourceExhausted
from infermesh_runtime.tensors import Array
from infermesh_worker.engine_process.frames import RequestFailure
from infermesh_worker.engine_process.run_frames import WireResult
from infermesh_worker.executors.executor import Executor, Item, Outcome, Result
from infermesh_worker.executors.wire_tensors import WireTensor, spans_of

_log = logging.getLogger(__name__)

Share = Callable[[str, Mapping[str, Array], Callable[[], None]], list[WireTensor]]
"""Copies a request's tensors to where the front reads them, and calls the function while it waits. Raises
ResourceExhausted, and what the function raises."""


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """A batch has ended; what became of each item was told before."""

    items: int
    """How many it had."""


@dataclass(frozen=True, slots=True)
class Alive:
    """A run goes on."""


Event = WireResult | RequestFailure | BatchEnd | Alive
"""A part of an answer or the end of one, a request's end without an answer, the end of a batch, or a sign of life."""


class RunWorker:
    """Threads that run batches. All methods but `emit` and `alive` are for one thread, the loop's."""

    def __init__(
        self,
        executor: Executor,
        share: Share,
        wake: Callable[[], None],
        cancelled: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`wake` is called, in any thread, when `events` has something new. `cancelled` tells, in any thread, whether a
        request is not wanted any more.
        """
        self._executor = executor
        self._share = share
        self._wake = wake
        self._cancelled = cancelled
        self._threads = ThreadPoolExecutor(executor.parallel, thread_name_prefix="run")
        self._events: deque[Event] = deque()
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

    def events(self) -> list[Event]:
        """What has happened since the last call: parts and ends of answers, ends of batches, and signs of life."""
        found = [self._events.popleft() for _ in range(len(self._events))]
        self.running -= sum(isinstance(event, BatchEnd) for event in found)
        return found

    def _run(self, batch: Mapping[str, Item]) -> None:
        self._run_items(batch)
        self._tell(BatchEnd(len(batch)))

    def _run_items(self, batch: Mapping[str, Item]) -> None:
        """Runs items together. If they fail together, each is run again by itself: one may be to blame."""
        outcomes = self._outcomes(list(batch.values()))
        if outcomes is not None:
            self._end_all(batch, outcomes)
            return
        for request_id, item in batch.items():
            self._run_items({request_id: item})  # its outputs are written before the next run, which overwrites them
            self._wake()

    def _outcomes(self, items: Sequence[Item]) -> Sequence[Outcome] | None:
        """The outcome of each item; None: they failed together.

        Nothing is raised, not even SystemExit or the panic of a library in Rust: the thread would end the batch without
        a word.
        """
        try:
            return [outcome for _, outcome in zip(items, self._executor.run(items), strict=True)]
        except BaseException as error:  # a bug that one item triggers must not end the others
            return None if len(items) > 1 else [_as_error(error)]

    def _end_all(self, request_ids: Iterable[str], outcomes: Sequence[Outcome]) -> None:
        """Tells the end of each item as soon as its outputs are written.

        The next item, or another batch, may wait for their memory, which is free when the front has read them.
        """
        holds_memory = False
        for request_id, outcome in zip(request_ids, outcomes, strict=True):
            if holds_memory:
                self._wake()
            end = self._end(request_id, outcome)
            holds_memory = isinstance(end, WireResult) and bool(spans_of(end.tensors))
            self._events.append(end)  # small answers are told together when the batch has ended: in one frame

    def _end(self, request_id: str, outcome: Outcome) -> WireResult | RequestFailure:
        if isinstance(outcome, InfermeshError):
            return RequestFailure.of(request_id, outcome)
        try:
            return self._wire(request_id, outcome, last=True)
        except BaseException as error:  # the outputs are too large, or no tensors: the other items have theirs
            return RequestFailure.of(request_id, _as_error(error))

    def _wire(self, request_id: str, result: Result, *, last: bool) -> WireResult:
        def waits() -> None:
            if self._cancelled(request_id):
                raise Cancelled("The request was cancelled.")
            self.alive()

        return WireResult(request_id, dict(result.params), self._share(request_id, result.tensors, waits), last)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._wake()


def _as_error(error: BaseException) -> InfermeshError:
    if isinstance(error, InfermeshError):
        return error
    if isinstance(error, MemoryError):
        return ResourceExhausted("The device has too little memory for this request.", reason="OUT_OF_MEMORY")
    _log.error("could not run a request", exc_info=error)
    return Internal("Internal error in the model.")
