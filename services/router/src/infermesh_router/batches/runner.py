"""Runs the requests of batches, a few at a time, behind everything else that waits. Goes on after a restart."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from uuid import uuid4

from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.access import Access
from infermesh_router.batches.lines import answered, refused
from infermesh_router.batches.store.batch_store import BatchStore
from infermesh_router.batches.store.batches import Batches
from infermesh_router.batches.store.kept import CANCELLED, COMPLETED, EXPIRED, RUNNING, Batch, Line
from infermesh_router.openai.answers.openai_dialect import OpenAIDialect
from infermesh_router.openai.conversion import BodyConverter
from infermesh_router.openai.generations import run_generations
from infermesh_router.openai.job import Job
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_runtime.background.shared_call import SharedCall
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import Code, InfermeshError, Internal
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc.limits.body_budget import BodyBudget, CountedShare, Share

_log = logging.getLogger(__name__)
_OPENAI = OpenAIDialect()
_STARTING_S = 30.0
"""How long after its start a router may not know all models yet, because its endpoints are still being connected."""
_CLIENT = "batches"
"""The client for whom the bodies of all batches count."""
_RETRY_S = 5.0
"""How long a request waits that could not run and was not told how long."""


class BatchRunner:
    """Runs batches until they end, or their time is over. A request that could only not run now is tried again."""

    def __init__(
        self,
        store: BatchStore,
        dispatcher: Dispatcher,
        *,
        access: Access,
        converter: BodyConverter,
        tasks: TaskSupervisor,
        bodies: BodyBudget,
        at_once: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`bodies`: the memory for bodies, of which all batches together take as much as one client may.

        `at_once`: how many requests of all batches may run at a time.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._access = access
        self._converter = converter
        self._tasks = tasks
        self._bodies = bodies
        self._at_once = at_once
        self._free = asyncio.Semaphore(at_once)
        self._sleep = sleep
        self._running: dict[str, BackgroundTask] = {}
        self._stopped = False

    async def start(self) -> None:
        """Goes on with the batches that a router before this one left, whose models may be known only later."""
        if not self._store.has_file:
            return
        try:
            for batch in await self._store.batches(Batches.running):
                self.begin(batch, patient_until_s=time.monotonic() + _STARTING_S)
        except InfermeshError as error:
            _log.error("batches do not go on: %s", error.message)

    async def stop(self) -> None:
        """Stops, before the endpoints are gone; what was not answered is run after the next start."""
        self._stopped = True
        running = list(self._running.values())
        for task in running:
            task.stop()
        for task in running:
            await task.wait()

    async def close(self) -> None:
        """Closes the store."""
        await self._store.close()

    async def add(self, batch: Batch, lines: Sequence[Line]) -> None:
        """Keeps a new batch and begins to run it, even if the caller leaves meanwhile. Raises what the store raises."""
        await SharedCall(self._tasks, "new batch", partial(self._add, batch, lines), about=batch.id).result()

    async def _add(self, batch: Batch, lines: Sequence[Line]) -> None:
        await self._store.batches(Batches.add, batch, lines)
        if batch.state == RUNNING:
            self.begin(batch)

    def begin(self, batch: Batch, *, patient_until_s: float = 0) -> None:
        """Begins to run a batch that is kept. `patient_until_s`: until then a model may not be known yet."""
        if self._stopped:
            return
        task = self._tasks.start("batch", partial(self._run, batch, patient_until_s), about=batch.id)
        self._running[batch.id] = task
        task.on_done(lambda: self._running.pop(batch.id, None))

    async def cancel(self, batch: Batch) -> None:
        """Ends a batch, and its requests that run now, even if the caller leaves meanwhile."""
        await SharedCall(self._tasks, "cancelled batch", partial(self._cancel, batch), about=batch.id).result()

    async def _cancel(self, batch: Batch) -> None:
        if (task := self._running.get(batch.id)) is not None:
            task.stop()
            await task.wait()
        await self._store.batches(Batches.end, batch.id, batch.owner, CANCELLED)

    async def _run(self, batch: Batch, patient_until_s: float) -> None:
        pending = iter(await self._store.batches(Batches.pending, batch.id))
        state = COMPLETED
        try:
            async with asyncio.timeout(batch.expires_s - time.time()), asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(self._work(batch, pending, patient_until_s))
        except TimeoutError:
            state = EXPIRED
        await self._store.batches(Batches.end, batch.id, batch.owner, state)

    async def _work(self, batch: Batch, pending: Iterator[int], patient_until_s: float) -> None:
        for n in pending:
            result, failed = await self._result(batch, n, patient_until_s)
            await self._store.batches(Batches.end_line, batch.id, n, result, failed=failed)

    async def _result(self, batch: Batch, n: int, patient_until_s: float) -> tuple[bytes, bool]:
        """The line of the answer or error, and whether it is an error."""
        custom_id, size_bytes = await self._store.batches(Batches.head, batch.id, n)
        request_id = f"req_{uuid4().hex}"
        REQUEST_ID.set(request_id)  # of the task that runs this request, for its log lines and its receipt
        while True:
            try:
                # not while it waits: other batches may be able to run, and what waits holds no body
                async with self._free:
                    with CountedShare(self._bodies, _CLIENT) as share:
                        share.arrived(size_bytes)
                        return answered(custom_id, n, request_id, await self._answer(batch, n, share)), False
            except InfermeshError as error:
                if not passes(error, patient=time.monotonic() < patient_until_s):
                    return refused(custom_id, n, request_id, error), True
                wait_s = error.retry_after_s or _RETRY_S
            except Exception:
                _log.exception("a request of %s failed", batch.id)
                return refused(custom_id, n, request_id, Internal("Internal error.")), True
            await self._sleep(wait_s)

    async def _answer(self, batch: Batch, n: int, share: Share) -> bytes:
        """The body of the answer."""
        job = await self._job(batch, n)
        share.keep(sum(len(call.body) for call in job.calls))
        sink = _OPENAI.whole(job, _no_headers)
        with self._access.entered_later(batch.owner, "batches") as visit:
            try:
                await run_generations(
                    self._dispatcher, job, sink, visit=visit, timeout_s=job.deadline_s, since_s=time.perf_counter()
                )
            except InfermeshError as error:
                raise _OPENAI.rename(error, job) from error
        return sink.body()

    async def _job(self, batch: Batch, n: int) -> Job:
        """What a request asks for. Only it is held while it runs."""
        body = await self._store.batches(Batches.body, batch.id, n)
        message = HttpBody(data=body).SerializeToString()
        del body
        is_chat = batch.endpoint == "/v1/chat/completions"
        return (await (self._converter.chat if is_chat else self._converter.completion)(message)).job


def passes(error: InfermeshError, *, patient: bool = False) -> bool:
    """Whether the request may run later. `patient`: also one for a model that is not known."""
    if error.code is Code.RESOURCE_EXHAUSTED:
        return bool(error.retry_after_s)
    return error.code is Code.UNAVAILABLE or (patient and error.code is Code.NOT_FOUND)


async def _no_headers(_started: inference_pb2.Started | None) -> None:
    """A batch has none."""
