"""Runs the reading of large requests in a few processes, because parsers hold Python's lock and would stop the loop."""

import asyncio
import multiprocessing
import os
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Concatenate, ParamSpec, TypeVar

from infermesh_router.requests.exchange import Exchange, read_request, write_reply
from infermesh_runtime.errors import InvalidArgument, Unavailable
from infermesh_runtime.processes.parent import die_with

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
        self,
        function: Callable[Concatenate[bytes, ArgumentsT], tuple[ResultT, Sequence[bytes]]],
        request: bytes,
        *arguments: ArgumentsT.args,
        **named: ArgumentsT.kwargs,
    ) -> tuple[ResultT, Sequence[bytes]]:
        """Calls a module's function with the request in another process: what it returns, a value and large bytes.

        Raises what it raises; InvalidArgument if its memory does not suffice, Unavailable if the process dies.
        """
        await self._free.acquire()  # so that no request that has to wait is copied
        exchange = Exchange()
        try:
            await exchange.send(request)
            executor = self._executor or self._start()
            running = executor.submit(_call, exchange.paths, function, arguments, named)
        except BaseException as error:
            exchange.close()
            self._free.release()
            if isinstance(error, BrokenProcessPool):
                self._drop(executor)
                raise _died() from None
            raise
        release = _in_loop(asyncio.get_running_loop(), self._free.release)
        running.add_done_callback(release)
        try:
            value, sizes = await asyncio.shield(asyncio.wrap_future(running))
            return value, await exchange.receive(sizes)
        except BrokenProcessPool:
            self._drop(executor)
            raise _died() from None
        finally:
            if running.done():
                exchange.close()
            else:  # the caller was cancelled, and the other process may open the files yet
                running.add_done_callback(lambda _: exchange.close())

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


def _call(
    paths: tuple[str, str], function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, list[int]]:
    request, reply = paths
    try:
        value, parts = function(read_request(request), *arguments, **named)
        write_reply(reply, parts)
    except MemoryError:
        raise InvalidArgument("The request takes too much memory to read.", reason="REQUEST_TOO_COMPLEX") from None
    return value, [len(part) for part in parts]


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[Future[Any]], None]:
    def tell(ended: Future[Any]) -> None:
        if not ended.cancelled():
            ended.exception()  # counts as looked at, if nobody waits any more
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)

    return tell


def _died() -> Unavailable:
    return Unavailable("The process that reads large requests died.", reason="PARSER_DIED", retry_after_s=1)
