"""Runs the reading of large requests in a few processes, because parsers hold Python's lock and would stop the loop."""

import asyncio
import multiprocessing
import os
import resource
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from infermesh_runtime.errors import InvalidArgument, Unavailable
from infermesh_runtime.parent import die_with

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")

_MEMORY_BYTES = 2 << 30
"""What one of the processes may allocate. A body within the default bounds needs about half of it."""
_NICENESS = 5  # a large body must not delay the streams of others where processors are few


class ParsingPool:
    """Starts its processes when the first large request comes. They die with this process."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._executor: ProcessPoolExecutor | None = None
        self._free = asyncio.Semaphore(processes)

    async def run(
        self, function: Callable[ArgumentsT, ResultT], *arguments: ArgumentsT.args, **named: ArgumentsT.kwargs
    ) -> ResultT:
        """Calls a function of a module in another process. Raises what it raises.

        Raises InvalidArgument if its memory does not suffice, Unavailable if the process dies.
        """
        await self._free.acquire()  # so that the pool copies no request that has to wait
        executor = self._executor or self._start()
        try:
            running = executor.submit(_call, function, arguments, named)
        except BrokenProcessPool:
            self._free.release()
            self._drop(executor)
            raise _died() from None
        running.add_done_callback(_tell_loop(asyncio.get_running_loop(), self._free.release))
        try:
            result: ResultT = await asyncio.shield(asyncio.wrap_future(running))
        except BrokenProcessPool:
            self._drop(executor)
            raise _died() from None
        return result

    async def close(self) -> None:
        """Ends the processes, once they have finished what they do."""
        if self._executor is not None:
            executor, self._executor = self._executor, None
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # "spawn", because a process with gRPC's threads must not be forked
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(
            self._processes, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
        )
        return self._executor

    def _drop(self, broken: ProcessPoolExecutor) -> None:
        if self._executor is broken:
            self._executor = None
            broken.shutdown(wait=False)


def _begin(parent_pid: int) -> None:
    die_with(parent_pid)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return function(*arguments, **named)
    except MemoryError:
        raise InvalidArgument("The request takes too much memory to read.", reason="REQUEST_TOO_COMPLEX") from None


def _tell_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[Future[Any]], None]:
    def tell(ended: Future[Any]) -> None:
        if not ended.cancelled():
            ended.exception()
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)

    return tell


def _died() -> Unavailable:
    return Unavailable("The process that reads large requests died.", reason="PARSER_DIED", retry_after_s=1)
