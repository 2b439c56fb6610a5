"""Sends items to an engine process whose model does not generate text, and hands their answers back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from infermesh_runtime.errors import InfermeshError, Unavailable
from infermesh_worker.engine_client.work import Work, WorkCall
from infermesh_worker.engine_process.frames import CancelCommand, EngineCommand, RunReport
from infermesh_worker.engine_process.run_frames import ReleaseCommand, RunCommand
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.wire_tensors import WireTensor, allocate, check_fits, shared_bytes, write

_THREAD_FROM_BYTES = 4 << 20
"""More bytes than this are copied in a thread, so that the event loop goes on; 4 MiB take about a millisecond."""
_GONE = "The engine process ended before this request could be sent to it."
"""So the process did not die of it: routers count ENGINE_CRASHED against a request, and WORKER_LOADING they do not."""

Arenas = tuple[Arena, Arena]


class ExecutorCalls:
    """All calls of one model. Used from one event loop."""

    def __init__(self, send: Callable[[EngineCommand], None], arenas: Callable[[], Arenas | None]) -> None:
        """`arenas` returns the memory shared with the engine process that runs now: the one written here, and the one
        written there; None while no process runs.
        """
        self._send = send
        self._arenas = arenas
        self._calls: dict[str, WorkCall] = {}
        self._turn = asyncio.Lock()
        """Held by the request that waits for memory: they get it in the order in which they came."""
        self._freed = asyncio.Event()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open(self) -> int:
        """How many calls somebody waits for."""
        return self._open

    @asynccontextmanager
    async def running(self, request_id: str, work: Work) -> AsyncIterator[WorkCall]:
        """Runs a request. Leaving the block before its answer has ended cancels it.

        Waits while the memory for tensors is full. Raises ResourceExhausted if it is too small, and Unavailable if the
        engine process ends meanwhile.
        """
        self._open += 1
        self._idle.clear()
        try:
            call = await self._submit(request_id, work)
            try:
                yield call
            finally:
                call.leave()
                if not call.ended:
                    self._send(CancelCommand(request_id))
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Waits until nobody waits for a call."""
        await self._idle.wait()

    def receive(self, report: RunReport) -> None:
        """Hands on what an engine process reports."""
        for result in report.results:
            if (call := self._calls.get(result.request_id)) is not None:
                call.push(result)
                self._forget_ended(result.request_id, call)
        for failure in report.failed:
            if (call := self._calls.get(failure.request_id)) is not None:
                call.fail(failure.error())
                self._forget_ended(failure.request_id, call)

    def fail_all(self, error: InfermeshError) -> None:
        """Ends every call, for example because the engine process has ended."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(error)
        self._freed.set()

    async def _submit(self, request_id: str, work: Work) -> WorkCall:
        inbox, outbox = arenas = self._require_arenas()
        sizes = shared_bytes(work.tensors)
        check_fits(inbox, sizes, "inputs")
        spans = await self._allocate(arenas, sizes) if sizes else []
        try:
            tensors = await _write(inbox, work, spans)
            self._check_same(arenas)
        except BaseException:
            self._free(inbox, spans)
            raise
        call = WorkCall(outbox, spans, lambda read: self._release(arenas, read))
        self._calls[request_id] = call
        self._send(
            RunCommand(
                request_id=request_id,
                params=dict(work.params),
                tensors=tensors,
                priority=work.priority,
                deadline_s=work.deadline_s,
            )
        )
        return call

    def _require_arenas(self) -> Arenas:
        arenas = self._arenas()
        if arenas is None:
            raise Unavailable(_GONE, reason="WORKER_LOADING", retry_after_s=1.0)
        return arenas

    async def _allocate(self, arenas: Arenas, sizes: Sequence[int]) -> list[int]:
        async with self._turn:
            while True:
                self._check_same(arenas)  # the process may have ended while this request waited, for its turn too
                if (spans := allocate(arenas[0], sizes)) is not None:
                    return spans
                self._freed.clear()
                await self._freed.wait()

    def _check_same(self, arenas: Arenas) -> None:
        """Raises Unavailable if the engine process with this memory has ended."""
        if self._arenas() is not arenas:
            raise Unavailable(_GONE, reason="WORKER_LOADING", retry_after_s=1.0)

    def _forget_ended(self, request_id: str, call: WorkCall) -> None:
        if call.ended and self._calls.pop(request_id, None) is not None and (arenas := self._arenas()) is not None:
            self._free(arenas[0], call.in_spans)

    def _free(self, inbox: Arena, spans: Sequence[int]) -> None:
        for span in spans:
            inbox.free(span)
        self._freed.set()

    def _release(self, arenas: Arenas, spans: list[int]) -> None:
        """Tells the engine process which answers were read, unless it is another one by now."""
        if spans and self._arenas() is arenas:
            self._send(ReleaseCommand(spans))


async def _write(inbox: Arena, work: Work, spans: Sequence[int]) -> list[WireTensor]:
    """Copies the tensors. If it is cancelled, it returns only when the memory is not written any more."""
    if sum(flat.size for _, _, _, flat in work.tensors) < _THREAD_FROM_BYTES:
        return write(inbox, work.tensors, spans)
    copying = asyncio.ensure_future(asyncio.to_thread(write, inbox, work.tensors, spans))
    try:
        return await asyncio.shield(copying)
    except asyncio.CancelledError:
        await asyncio.wait([copying])
        raise
