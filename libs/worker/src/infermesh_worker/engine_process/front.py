"""Owns the streams of the running requests: submits, routes each step's outputs to them, cancels.

Knows no gRPC and no text: requests come as engine values, and outputs leave as they came.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import InfermeshError, Unavailable
from infermesh_worker.engine_process.ipc import Cancel, Start, Step, Submit
from infermesh_worker.engine_process.metrics import Meter, Timing
from infermesh_worker.engine_process.status import State, Status
from infermesh_worker.engine_process.stream import Stream
from infermesh_worker.engine_process.supervisor import EngineSupervisor, RestartPolicy
from infermesh_worker.engine_process.watched import Watched


class Front:
    """Requests in, streams out, whatever happens to the engine process. Used from one event loop."""

    def __init__(
        self,
        build: str,
        start: Start,
        meter: Meter,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`build`: the function that loads the model in the engine process, as package.module:function."""
        self._supervisor = EngineSupervisor(
            build, start, on_step=self._on_step, on_end=self._on_engine_end, policy=policy
        )
        self._meter = meter
        self._clock = clock
        self._ids = itertools.count(1)
        self._streams: dict[str, Stream] = {}
        self._retired: InfermeshError | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def sequences(self) -> int:
        """Choices of all requests that have not ended."""
        return sum(stream.open_choices for stream in self._streams.values())

    @property
    def status(self) -> Watched[Status]:
        """State, device and load, to be read or followed."""
        return self._supervisor.status

    @property
    def engine_pid(self) -> int:
        """Process id of the engine process; 0 when there is none."""
        return self._supervisor.engine_pid

    async def start(self) -> None:
        """Starts the engine process; `status` tells when it is ready."""
        self._supervisor.start()

    def new_request_id(self) -> str:
        """An id for a request to `open`, unique in this process."""
        return str(next(self._ids))

    def require_ready(self) -> RunnerInfo:
        """What runs the requests. Raises Unavailable when the worker takes none."""
        if self._retired is not None:
            raise self._retired
        status = self.status.value
        if status.state is not State.READY or status.info is None:
            raise status.refusal()
        return status.info

    @contextmanager
    def open(self, request: GenerationRequest) -> Iterator[Stream]:
        """Runs a request. Leaving the context before its stream has ended cancels it. Raises Unavailable."""
        self.require_ready()
        choices = request.n - sum(part.finished for part in request.generated)
        stream = Stream(choices, Timing(self._clock(), len(request.prompt_token_ids)))
        self._streams[request.request_id] = stream
        self._idle.clear()
        self._supervisor.send(Submit(request))
        try:
            yield stream
        finally:
            if not stream.ended:
                self._supervisor.send(Cancel(request.request_id))
                self._meter.request_cancelled()
            self._forget(request.request_id)

    async def drain(self) -> None:
        """Refuses new requests and waits for the running ones; those that still run when it is cancelled fail.

        Those that follow the status are then let go."""
        self._supervisor.begin_drain()
        try:
            await self._idle.wait()
        finally:
            self._fail_all(Unavailable("the worker stopped before the request was done", reason="WORKER_DRAINING"))
            self.status.close()

    def retire(self, error: InfermeshError) -> None:
        """Ends every stream with `error`, and refuses all requests with it from now on."""
        self._retired = error
        self._fail_all(error)

    async def stop(self) -> None:
        """Ends the engine process; nothing of it is left when this returns."""
        await self._supervisor.stop()

    def _on_step(self, step: Step) -> None:
        now_s = self._clock()
        streams, meter = self._streams, self._meter
        for delta in step.deltas:
            stream = streams.get(delta[0])
            if stream is not None:
                meter.tokens_came(stream.timing, len(delta[3]), now_s)
                stream.push(delta)
        for finished in step.finished:
            stream = streams.get(finished.request_id)
            if stream is not None:
                meter.choice_finished(finished)
                stream.finish(finished)
                if stream.ended:
                    meter.request_finished(stream.timing, now_s)
        for failure in step.failed:
            self._fail(failure.request_id, failure.error())
        if step.load is not None:
            meter.load_came(step.load)

    def _on_engine_end(self, reason: str) -> None:
        self._meter.engine_ended()
        self._fail_all(Unavailable(f"the engine ended: {reason}", reason="ENGINE_CRASHED", retry_after_s=1.0))

    def _fail(self, request_id: str, error: InfermeshError) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.fail(error)

    def _fail_all(self, error: InfermeshError) -> None:
        for request_id in list(self._streams):
            self._fail(request_id, error)

    def _forget(self, request_id: str) -> None:
        del self._streams[request_id]
        if not self._streams:
            self._idle.set()
