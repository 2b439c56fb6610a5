"""Keeps one engine process running: starts it, restarts it when it dies or hangs, and stops it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_worker.engine_client.engine_link import EngineEnd, EngineLink
from infermesh_worker.engine_client.engine_status import EngineStatus, LoadFailure, ServingState
from infermesh_worker.engine_client.watched import WatchedValue
from infermesh_worker.engine_process.frames import (
    EngineCommand,
    EngineReport,
    KvLimitedReport,
    LimitKvCommand,
    LoadedReport,
    PingCommand,
    RunReport,
    ShutdownCommand,
    StartCommand,
    StepReport,
)
from infermesh_worker.executors.arena import Arena

_log = logging.getLogger(__name__)

_STOP_S = 5.0
_PINGS = 4
"""How many unanswered pings in a row make the longest silence that is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When an engine process is restarted, and when it is reported as failed."""

    first_delay_s: float = 0.1
    """Delay before the first restart; doubles with each failed load in a row."""
    max_delay_s: float = 10.0
    max_failed_loads: int = 5
    """Failed loads in a row after which the state is FAILED; loading is still retried every max_delay_s."""
    max_silence_s: float = 120.0
    """A loaded engine process that sends nothing for this long, in a step or between two, is killed and restarted."""

    def gives_up(self, failed_loads: int) -> bool:
        """Whether this many failed loads in a row are reported as FAILED."""
        return failed_loads >= self.max_failed_loads

    def delay_s(self, failed_loads: int) -> float:
        """Time to wait before the next start."""
        return min(self.first_delay_s * 2.0 ** max(failed_loads - 1, 0), self.max_delay_s)


class EngineSupervisor:
    """Keeps one engine process running. Used from one event loop, in the main thread."""

    def __init__(
        self,
        build: str,
        start: StartCommand,
        *,
        on_step: Callable[[StepReport], None],
        on_end: Callable[[str], None],
        on_run: Callable[[RunReport], None] | None = None,
        tensor_memory_bytes: int = 0,
        policy: RestartPolicy | None = None,
        name: str = "",
        tasks: TaskSupervisor | None = None,
    ) -> None:
        """`build`: the function that builds the model in the engine process, as package.module:function.

        `on_step` and `on_run` are called with every report of these kinds, and `on_end` with the reason when a loaded
        engine process ends by itself. `tensor_memory_bytes`: see EngineLink.start. `name` tells its background tasks
        from those of other engine processes.
        """
        self.status: WatchedValue[EngineStatus] = WatchedValue(EngineStatus(message="starting the engine process"))
        self._build = build
        self._start = start
        self._on_step = on_step
        self._on_end = on_end
        self._on_run = on_run
        self._tensor_memory_bytes = tensor_memory_bytes
        self._policy = policy or RestartPolicy()
        self._link: EngineLink | None = None
        self._loaded = False
        self._heard = False
        self._stopping = False
        self._kv_limit_bytes: int | None = None
        self._kv_answers: deque[asyncio.Future[None]] = deque()
        """One for each LimitKvCommand that the engine process has not answered."""
        self._name = name
        self._tasks = tasks or TaskSupervisor()
        self._task: BackgroundTask | None = None

    @property
    def engine_pid(self) -> int:
        """Process id of the engine process; 0 while there is none."""
        return self._link.pid if self._link else 0

    @property
    def arenas(self) -> tuple[Arena, Arena] | None:
        """Memory shared with this engine process, see EngineLink; None while there is none."""
        return self._link.arenas if self._link else None

    def start(self) -> None:
        """Starts the engine process. `status` tells when it is ready."""
        self._task = self._tasks.start("engine supervisor", self._supervise, about=self._name)

    def send(self, command: EngineCommand) -> None:
        """Sends a command to the engine process; does nothing while there is none."""
        if self._link is not None:
            self._link.send(command)

    def limit_kv(self, kv_cache_bytes: int) -> Awaitable[None]:
        """Tells the engine process how large its KV cache may be, and each one that replaces it.

        The result is there when memory that the cache no longer uses is free.
        """
        self._kv_limit_bytes = kv_cache_bytes
        return self._send_kv_limit()

    def _send_kv_limit(self) -> Awaitable[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._loaded and self._link is not None and self._kv_limit_bytes is not None:
            self._kv_answers.append(answer)
            self._link.send(LimitKvCommand(self._kv_limit_bytes))
        else:
            answer.set_result(None)
        return answer

    def _answer_kv(self) -> None:
        answer = self._kv_answers.popleft()
        if not answer.done():  # whoever asked may have left
            answer.set_result(None)

    def begin_drain(self) -> None:
        """Sets the state to DRAINING: from now on an engine process that dies is not restarted."""
        self._stopping = True
        self.status.set(replace(self.status.value, state=ServingState.DRAINING, message="shutting down"))

    async def stop(self) -> None:
        """Ends the engine process, and kills it when it has not ended within 5 s."""
        self._stopping = True
        if self._link is not None:
            self._link.send(ShutdownCommand())
        if self._task is not None:
            ended = await self._task.wait(_STOP_S if self._loaded else 0)
            if not ended and self._link is not None:
                self._link.kill()
                await self._task.wait(_STOP_S)
            self._task.stop()
            await self._task.wait()

    async def _supervise(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:  # a bug of ours: the engine process is gone, and its streams must not hang
            loaded, self._loaded = self._loaded, False
            end = EngineEnd(f"the worker failed to watch over it: {type(error).__name__}: {error}")
            if not self._stopping:
                self._report_end(end, failed_loads=0, gives_up=False)
            if loaded:
                self._on_end(end.reason)
            raise

    async def _keep_running(self) -> None:
        failed_loads = 0
        while not self._stopping:
            end = await self._run_engine()
            loaded, self._loaded = self._loaded, False
            failed_loads = 0 if loaded else failed_loads + 1
            gives_up = not loaded and (end.permanent or self._policy.gives_up(failed_loads))
            if not self._stopping:
                self._report_end(end, failed_loads, gives_up)
            if loaded:
                # After the state is set, so that a client whose stream failed does not still see READY.
                self._on_end(end.told)
            if not self._stopping:
                delay_s = self._policy.max_delay_s if gives_up else self._policy.delay_s(failed_loads)
                _log.error("engine ended", extra={"reason": end.reason, "restart_in_s": delay_s})
                await asyncio.sleep(delay_s)

    async def _run_engine(self) -> EngineEnd:
        """Runs one engine process until it ends; returns why."""
        try:
            self._link = await EngineLink.start(
                self._build, self._start, self._receive, tensor_memory_bytes=self._tensor_memory_bytes
            )
            _log.info("engine started", extra={"engine_pid": self._link.pid})
            watchdog = self._tasks.start("engine watchdog", partial(self._watch, self._link), about=self._name)
            try:
                return await self._link.ended()
            except Exception:
                self._link.kill()  # nobody would watch over it
                await self._link.ended()
                raise
            finally:
                watchdog.stop()
        except OSError as error:
            return EngineEnd(f"the engine process could not be started: {error}")
        finally:
            self._link = None
            while self._kv_answers:
                self._answer_kv()

    async def _watch(self, link: EngineLink) -> None:
        """Kills the engine process when it hangs, for example in a native call that never returns.

        Silence is counted in unanswered pings rather than by the clock, so that an engine process is not killed because
        the whole machine was suspended.
        """
        unanswered = 0
        while unanswered < _PINGS:
            self._heard = False
            if self._loaded:
                link.send(PingCommand())
            await asyncio.sleep(self._policy.max_silence_s / _PINGS)
            unanswered = unanswered + 1 if self._loaded and not self._heard else 0
        link.kill(f"the engine process was silent for {self._policy.max_silence_s:g} s and was killed")

    def _receive(self, report: EngineReport) -> None:
        self._heard = True
        if isinstance(report, StepReport):
            self._on_step(report)
            self._report_load(report)
        elif isinstance(report, RunReport):
            if self._on_run is not None:
                self._on_run(report)
            self._report_load(report)
        elif isinstance(report, LoadedReport):
            self._loaded = True
            self._report_loaded(report)
            self._send_kv_limit()
        elif isinstance(report, KvLimitedReport):
            self._answer_kv()
            self.status.set(replace(self.status.value, kv_cache_bytes=report.kv_cache_bytes))

    def _report_load(self, report: StepReport | RunReport) -> None:
        if report.load is not None:
            status = self.status.value
            self.status.set(replace(status, load=report.load, memory_free_bytes=report.memory_free_bytes))

    def _report_loaded(self, report: LoadedReport) -> None:
        status = self.status.value
        if not self._stopping:
            status = replace(status, state=ServingState.READY, message="", load_failure=None)
        self.status.set(
            replace(
                status,
                info=report.info,
                facts=report.facts,
                load=report.load,
                memory_free_bytes=report.memory_free_bytes,
                memory_bytes=report.memory_bytes,
                kv_cache_bytes=report.info.kv_cache_bytes,
            )
        )

    def _report_end(self, end: EngineEnd, failed_loads: int, gives_up: bool) -> None:
        failure = None
        if failed_loads:
            times = f" ({failed_loads} times in a row)" if failed_loads > 1 else ""
            message = f"the model could not be loaded{times}: {end.reason}"
            failure = LoadFailure(message=message, code=end.code, reason=end.error_reason)
        else:
            message = f"restarting the engine process: {end.told}"
        state = ServingState.FAILED if gives_up else ServingState.LOADING
        idle = replace(self.status.value.load, running=0, waiting=0, waiting_tokens=0, kv_cache_usage=0.0)
        self.status.set(replace(self.status.value, state=state, message=message, load=idle, load_failure=failure))
