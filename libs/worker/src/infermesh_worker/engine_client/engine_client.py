"""Submits requests to an engine process, routes their outputs to their streams, and cancels them."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import InfermeshError, Unavailable
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.engine_client.executor_calls import ExecutorCalls
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.engine_client.request_meter import RequestMeter, RequestTiming
from infermesh_worker.engine_client.supervisor import EngineSupervisor, RestartPolicy
from infermesh_worker.engine_client.watched import WatchedValue
from infermesh_worker.engine_client.work import Work, WorkCall
from infermesh_worker.engine_process.frames import CancelCommand, RunReport, StartCommand, StepReport, SubmitCommand
from infermesh_worker.engine_process.run_frames import ModelFacts


class EngineClient:
    """Turns requests into streams, across restarts of the engine process. Used from one event loop."""

    def __init__(
        self,
        build: str,
        start: StartCommand,
        meter: RequestMeter,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = "",
        tasks: TaskSupervisor | None = None,
        tensor_memory_bytes: int = 0,
    ) -> None:
        """`build`: the function that builds the model in the engine process, as package.module:function.

        `tensor_memory_bytes`: for a model that does not generate text, most memory for tensors on their way, each way.
        """
        self._supervisor = EngineSupervisor(
            build,
            start,
            on_step=self._on_step,
            on_run=self._on_run,
            on_end=self._on_engine_end,
            tensor_memory_bytes=tensor_memory_bytes,
            policy=policy,
            name=name,
            tasks=tasks,
        )
        self._calls = ExecutorCalls(self._supervisor.send, lambda: self._supervisor.arenas)
        self._meter = meter
        self._clock = clock
        self._ids = itertools.count(1)
        self._streams: dict[str, OutputStream] = {}
        self._retired: InfermeshError | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def sequences(self) -> int:
        """How many choices of all requests have not ended."""
        return sum(stream.open_choices for stream in self._streams.values()) + self._calls.open

    @property
    def status(self) -> WatchedValue[EngineStatus]:
        """The engine process's status, to be read or followed."""
        return self._supervisor.status

    @property
    def engine_pid(self) -> int:
        """Process id of the engine process; 0 while there is none."""
        return self._supervisor.engine_pid

    async def start(self) -> None:
        """Starts the engine process; `status` tells when it is ready."""
        self._supervisor.start()

    def new_request_id(self) -> str:
        """A request id that is unique in this process."""
        return str(next(self._ids))

    def require_ready(self) -> RunnerInfo:
        """The runner's figures. Raises Unavailable when no requests are taken."""
        if self._retired is not None:
            raise self._retired
        status = self.status.value
        if status.state is not ServingState.READY or status.info is None:
            raise status.refusal()
        return status.info

    def require_facts(self) -> ModelFacts:
        """What the model says of itself. Raises Unavailable when no requests are taken."""
        self.require_ready()
        if (facts := self.status.value.facts) is None:
            raise Unavailable("The model has not said yet what it takes.", reason="WORKER_LOADING", retry_after_s=1.0)
        return facts

    @contextmanager
    def open(self, request: GenerationRequest) -> Iterator[OutputStream]:
        """Runs a request. Leaving the block before the stream has ended cancels it. Raises Unavailable."""
        self.require_ready()
        choices = request.n - sum(part.finished for part in request.generated)
        stream = OutputStream(choices, RequestTiming(self._clock(), len(request.prompt_token_ids)))
        self._streams[request.request_id] = stream
        self._idle.clear()
        self._supervisor.send(SubmitCommand(request))
        try:
            yield stream
        finally:
            if not stream.ended:
                self._supervisor.send(CancelCommand(request.request_id))
                self._meter.request_cancelled(stream.open_choices)
            self._forget(request.request_id)

    @asynccontextmanager
    async def running(self, work: Work) -> AsyncIterator[WorkCall]:
        """Runs a request on a model that does not generate text. Leaving the block before its end cancels it.

        Raises Unavailable and ResourceExhausted; reading its answer raises whatever the model ended it with.
        """
        self.require_ready()
        since_s = self._clock()
        async with self._calls.running(self.new_request_id(), work) as call:
            yield call
            if call.ended:
                self._meter.item_finished(self._clock() - since_s)

    def limit_kv(self, kv_cache_bytes: int) -> Awaitable[None]:
        """Sets how large the KV cache may be from now on. The result is there when what it no longer uses is free."""
        return self._supervisor.limit_kv(kv_cache_bytes)

    async def drain(self) -> None:
        """Refuses new requests and waits for the running ones, then ends the stream of status changes.

        When this is cancelled, the requests that still run fail.
        """
        self._supervisor.begin_drain()
        try:
            await self._idle.wait()
            await self._calls.wait_idle()
        finally:
            self._fail_all(Unavailable("The worker shut down before this request finished.", reason="WORKER_DRAINING"))
            self.status.close()

    def retire(self, error: InfermeshError) -> None:
        """Ends every stream with `error`, and refuses every further request with it."""
        self._retired = error
        self._fail_all(error)

    async def stop(self) -> None:
        """Ends the engine process and waits until it is gone."""
        await self._supervisor.stop()

    def _on_step(self, step: StepReport) -> None:
        now_s = self._clock()
        streams, meter = self._streams, self._meter
        for request_id, logprobs, ranks in step.prompts:
            if (scored := streams.get(request_id)) is not None:
                scored.prompt_logprobs = (logprobs, ranks)
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

    def _on_run(self, report: RunReport) -> None:
        self._calls.receive(report)

    def _on_engine_end(self, reason: str) -> None:
        self._meter.engine_ended()
        self._fail_all(Unavailable(f"This request was cut off: {reason}", reason="ENGINE_CRASHED", retry_after_s=1.0))

    def _fail(self, request_id: str, error: InfermeshError) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.fail(error)

    def _fail_all(self, error: InfermeshError) -> None:
        for request_id in list(self._streams):
            self._fail(request_id, error)
        self._calls.fail_all(error)

    def _forget(self, request_id: str) -> None:
        del self._streams[request_id]
        if not self._streams:
            self._idle.set()
