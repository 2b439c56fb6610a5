"""Serves a model that does not generate text: takes items, batches them, and reports their results to the front."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from infermesh_engine.requests.output import EngineLoad
from infermesh_runtime.errors import Cancelled, DeadlineExceeded, InfermeshError, Internal
from infermesh_worker.engine_process.channel import Channel
from infermesh_worker.engine_process.frames import (
    CancelCommand,
    EngineCommand,
    KvLimitedReport,
    LimitKvCommand,
    LoadedReport,
    PingCommand,
    RequestFailure,
    RunReport,
    ShutdownCommand,
)
from infermesh_worker.engine_process.out_tensors import OutTensors
from infermesh_worker.engine_process.process_memory import memory_bytes
from infermesh_worker.engine_process.run_frames import ModelFacts, ReleaseCommand, RunCommand, WireResult
from infermesh_worker.engine_process.run_worker import Alive, BatchEnd, Event, RunWorker
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.batcher import Batcher, Waiting
from infermesh_worker.executors.executor import BuiltExecutor, Item
from infermesh_worker.executors.wire_tensors import read, spans_of
from infermesh_worker.executors.work_meter import WorkMeter

_MEMORY_INTERVAL_S = 1.0
_log = logging.getLogger(__name__)
_CANCELLED = "The request was cancelled."
_LATE = "The deadline passed before the model could begin to run this request."


class ExecutorLoop:
    """Runs items until the front tells it to stop."""

    def __init__(
        self,
        built: BuiltExecutor,
        channel: Channel,
        inbox: Arena,
        outbox: Arena,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`inbox` is written by the front, `outbox` by us. The clock must be the one of deadlines."""
        self._built = built
        self._executor = built.executor
        self._channel = channel
        self._inbox = inbox
        self._out = OutTensors(outbox, built.outputs, parallel=self._executor.parallel)
        self._clock = clock
        self._batcher = Batcher(built.limits)
        self._meter = WorkMeter()
        self._items: dict[str, Item] = {}
        """Everything that has not been answered, waiting or running."""
        self._cancelled: set[str] = set()
        self._worker = RunWorker(self._executor, self._out.write, channel.wake, self._cancelled.__contains__)
        self._failed: list[RequestFailure] = []
        self._moved = True
        """Whether a batch began or ended, or a run gave a part of an answer or a sign of life, since the last ping."""
        self._stuck = False
        """Whether that was not so when the last ping came. We are silent then, until the front kills us or it is over.
        """
        self._memory_due_s = 0.0
        self._memory_free_bytes = 0
        self._stopping = False

    def run(self) -> None:
        """Serves until a ShutdownCommand. Raises ParentGoneError."""
        built = self._built
        facts = ModelFacts(kind=built.kind, inputs=built.inputs, outputs=built.outputs, limits=built.limits)
        info = self._executor.info
        self._channel.send(LoadedReport(info, self._load(), self._memory(), memory_bytes(info), facts))
        while not self._stopping:
            self._channel.wait(self._idle_s())
            changed = self._obey()
            events = self._worker.events()
            results = [result for event in events for result in self._settle(event)]
            changed |= self._dispatch() or bool(events)
            if not self._stuck and (changed or results or self._failed):
                failed, self._failed = self._failed, []
                self._channel.send(RunReport(results, failed, self._load(), self._memory()))
        self._out.close()
        self._executor.close()

    def _idle_s(self) -> float | None:
        """How long nothing may happen by itself; None: until something comes."""
        may_begin = self._worker.has_room and not self._channel.congested
        due_s = self._batcher.due_s() if may_begin else self._batcher.next_deadline_s()
        return None if due_s is None else max(0.0, due_s - self._clock())

    def _obey(self) -> bool:
        """Executes the commands that have arrived; returns whether the front should be told of the load."""
        told = False
        while (command := self._channel.receive()) is not None:
            told |= self._execute(command)
        return told

    def _execute(self, command: EngineCommand) -> bool:
        match command:
            case RunCommand():
                self._accept(command)
            case CancelCommand(request_id):
                self._cancel(request_id)
            case ReleaseCommand(spans):
                self._out.release(spans)
                return False
            case PingCommand():
                return self._answers_ping()
            case LimitKvCommand():  # there is no KV cache
                self._channel.send(KvLimitedReport(0))
            case ShutdownCommand():
                self._stopping = True
            case _:
                raise RuntimeError(f"a model that does not generate text was sent a {type(command).__name__}")
        return True

    def _answers_ping(self) -> bool:
        """Whether all is well: something has moved since the last ping, or nothing runs."""
        self._stuck = not self._moved and self._worker.running > 0
        self._moved = False
        return not self._stuck

    def _accept(self, command: RunCommand) -> None:
        request_id = command.request_id
        try:
            item = self._make_item(request_id, command.params, read(self._inbox, command.tensors))
            waiting = Waiting(
                request_id=request_id,
                group=self._executor.group(item),
                size=max(1, self._executor.size(item)),
                arrived_s=self._clock(),
                priority=command.priority,
                deadline_s=command.deadline_s,
            )
        except InfermeshError as error:
            self._failed.append(RequestFailure.of(request_id, error))
        except Exception:  # a bug that one item triggers must not end the others
            _log.exception("could not take a request")
            self._failed.append(RequestFailure.of(request_id, Internal("Internal error in the model.")))
        else:
            self._items[request_id] = item
            self._batcher.add(waiting)

    def _make_item(self, request_id: str, params: Mapping[str, Any], tensors: Mapping[str, Any]) -> Item:
        return Item(
            params=params,
            tensors=tensors,
            emit=lambda result: self._worker.emit(request_id, result),
            cancelled=lambda: request_id in self._cancelled,
            alive=self._worker.alive,
        )

    def _cancel(self, request_id: str) -> None:
        """Ends a waiting item at once. A running one is told; its result is dropped when it comes."""
        if self._batcher.remove(request_id):
            self._end(request_id, Cancelled(_CANCELLED))
        elif request_id in self._items:
            self._cancelled.add(request_id)

    def _dispatch(self) -> bool:
        """Begins the batches that are due; returns whether there were any."""
        now_s = self._clock()
        for request_id in self._batcher.drop_expired(now_s):
            self._end(request_id, DeadlineExceeded(_LATE))
        began = False
        while self._worker.has_room and not self._channel.congested and (batch := self._batcher.take(now_s)):
            self._meter.began(now_s)
            self._worker.begin({waiting.request_id: self._items[waiting.request_id] for waiting in batch})
            self._moved = began = True
        return began

    def _settle(self, event: Event) -> list[WireResult]:
        """The results to send; ends the item whose end was told."""
        self._moved, self._stuck = True, False
        match event:
            case Alive():
                return []
            case BatchEnd(items):
                self._meter.ended(items, self._clock())
                return []
            case RequestFailure():
                self._failed.append(event)
                self._forget(event.request_id)
                return []
        wanted = self._wanted(event)
        if event.last:
            self._forget(event.request_id)
        return wanted

    def _wanted(self, result: WireResult) -> list[WireResult]:
        """The result, unless its request was cancelled: its memory is freed then, and at its end, the front is told."""
        if result.request_id not in self._cancelled:
            return [result]
        self._out.release(spans_of(result.tensors))
        if result.last:
            self._failed.append(RequestFailure.of(result.request_id, Cancelled(_CANCELLED)))
        return []

    def _forget(self, request_id: str) -> None:
        self._items.pop(request_id, None)
        self._cancelled.discard(request_id)

    def _end(self, request_id: str, error: InfermeshError) -> None:
        """Ends an item that has not run."""
        del self._items[request_id]
        self._failed.append(RequestFailure.of(request_id, error))

    def _load(self) -> EngineLoad:
        waiting = len(self._batcher)
        return EngineLoad(running=len(self._items) - waiting, waiting=waiting, request_s=self._meter.request_s)

    def _memory(self) -> int:
        now_s = self._clock()
        if now_s >= self._memory_due_s:
            self._memory_due_s = now_s + _MEMORY_INTERVAL_S
            self._memory_free_bytes = self._executor.memory_free_bytes()
        return self._memory_free_bytes
