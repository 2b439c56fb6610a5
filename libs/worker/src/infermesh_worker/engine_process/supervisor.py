"""Owns the engine process' life: starts it, starts it again when it dies, stops it, and says what state that is.

Knows no requests: frames go to whoever asked for them.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from infermesh_worker.engine_process.engine_link import EngineEnd, EngineLink
from infermesh_worker.engine_process.ipc import Command, Loaded, Ping, Report, Shutdown, Start, Step
from infermesh_worker.engine_process.status import LoadFailure, State, Status
from infermesh_worker.engine_process.watched import Watched

_log = logging.getLogger(__name__)

_STOP_S = 5.0
_PINGS = 4
"""Unanswered ones in a row that make the longest silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When an engine process is given up, and when it is started again."""

    first_delay_s: float = 0.1
    """Doubles with each failed load in a row."""
    max_delay_s: float = 10.0
    max_failed_loads: int = 5
    """Failed loads in a row after which the state is FAILED; it is still tried again every max_delay_s."""
    max_silence_s: float = 120.0
    """A loaded engine process that says nothing for so long, in a step or between two, is killed and started again."""

    def gives_up(self, failed_loads: int) -> bool:
        """Whether so many failed loads in a row are reported as FAILED."""
        return failed_loads >= self.max_failed_loads

    def delay_s(self, failed_loads: int) -> float:
        """Time to wait before the next start."""
        return min(self.first_delay_s * 2.0 ** max(failed_loads - 1, 0), self.max_delay_s)


class EngineSupervisor:
    """Keeps one engine process running. Used from one event loop, in the main thread."""

    def __init__(
        self,
        build: str,
        start: Start,
        *,
        on_step: Callable[[Step], None],
        on_end: Callable[[str], None],
        policy: RestartPolicy | None = None,
    ) -> None:
        """`build`: the function that loads the model in the engine process, as package.module:function.

        `on_step` gets every step frame; `on_end` why a loaded engine process ended unasked.
        """
        self.status: Watched[Status] = Watched(Status(message="the engine is starting"))
        self._build = build
        self._start = start
        self._on_step = on_step
        self._on_end = on_end
        self._policy = policy or RestartPolicy()
        self._link: EngineLink | None = None
        self._loaded = False
        self._heard = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def engine_pid(self) -> int:
        """Process id of the engine process; 0 when there is none."""
        return self._link.pid if self._link else 0

    def start(self) -> None:
        """Starts the engine process; `status` tells when it is ready."""
        self._task = asyncio.create_task(self._supervise(), name="engine supervisor")

    def send(self, command: Command) -> None:
        """Sends a command to the engine process; nothing when there is none."""
        if self._link is not None:
            self._link.send(command)

    def begin_drain(self) -> None:
        """State DRAINING from now on: an engine process that dies is not started again."""
        self._stopping = True
        self.status.set(replace(self.status.value, state=State.DRAINING, message="the worker is stopping"))

    async def stop(self) -> None:
        """Ends the engine process, killing it when it does not go within 5 s."""
        self._stopping = True
        if self._link is not None:
            self._link.send(Shutdown())
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=_STOP_S if self._loaded else 0)
            if late and self._link is not None:
                self._link.kill()
                await asyncio.wait([self._task], timeout=_STOP_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _supervise(self) -> None:
        failed_loads = 0
        while not self._stopping:
            end = await self._run_engine()
            loaded, self._loaded = self._loaded, False
            failed_loads = 0 if loaded else failed_loads + 1
            gives_up = not loaded and (end.permanent or self._policy.gives_up(failed_loads))
            if not self._stopping:
                self._report_end(end, failed_loads, gives_up)
            if loaded:
                # After the state, so that who hears of a failed stream is not told READY any more.
                self._on_end(end.reason)
            if not self._stopping:
                delay_s = self._policy.max_delay_s if gives_up else self._policy.delay_s(failed_loads)
                _log.error("engine ended", extra={"reason": end.reason, "restart_in_s": delay_s})
                await asyncio.sleep(delay_s)

    async def _run_engine(self) -> EngineEnd:
        """Runs one engine process to its end; returns why it ended."""
        try:
            self._link = await EngineLink.start(self._build, self._start, self._receive)
            _log.info("engine started", extra={"engine_pid": self._link.pid})
            watchdog = asyncio.create_task(self._watch(self._link), name="engine watchdog")
            try:
                return await self._link.ended()
            finally:
                watchdog.cancel()
        except OSError as error:
            return EngineEnd(f"the engine process could not be started: {error}")
        finally:
            self._link = None

    async def _watch(self, link: EngineLink) -> None:
        """Kills the engine process when it hangs, as in a native call that never returns.

        Silence is counted in pings: after the whole machine stood still, the engine is asked again before it is judged.
        """
        unanswered = 0
        while unanswered < _PINGS:
            self._heard = False
            if self._loaded:
                link.send(Ping())
            await asyncio.sleep(self._policy.max_silence_s / _PINGS)
            unanswered = unanswered + 1 if self._loaded and not self._heard else 0
        link.kill(f"the engine process said nothing for {self._policy.max_silence_s:g} s and was killed")

    def _receive(self, report: Report) -> None:
        self._heard = True
        if isinstance(report, Step):
            self._on_step(report)
            if report.load is not None:
                status = self.status.value
                self.status.set(replace(status, load=report.load, memory_free_bytes=report.memory_free_bytes))
        elif isinstance(report, Loaded):
            self._loaded = True
            self._report_loaded(report)

    def _report_loaded(self, report: Loaded) -> None:
        status = self.status.value
        if not self._stopping:
            status = replace(status, state=State.READY, message="", load_failure=None)
        self.status.set(
            replace(
                status,
                info=report.info,
                load=report.load,
                memory_free_bytes=report.memory_free_bytes,
                memory_bytes=report.memory_bytes,
            )
        )

    def _report_end(self, end: EngineEnd, failed_loads: int, gives_up: bool) -> None:
        failure = None
        if failed_loads:
            times = f" ({failed_loads} times in a row)" if failed_loads > 1 else ""
            message = f"the model could not be loaded{times}: {end.reason}"
            failure = LoadFailure(message=message, code=end.code, reason=end.error_reason)
        else:
            message = f"the engine is restarted after it ended: {end.reason}"
        state = State.FAILED if gives_up else State.LOADING
        idle = replace(self.status.value.load, running=0, waiting=0, waiting_tokens=0, kv_cache_usage=0.0)
        self.status.set(replace(self.status.value, state=state, message=message, load=idle, load_failure=failure))
