"""Serves GenerateMany for scripted workers: runs each of its calls as the worker would run a Generate call."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.background.tasks import is_cancelled
from infermesh_runtime.errors import DeadlineExceeded, InfermeshError, Internal, Unavailable
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_runtime.rpc.status import to_status

Generate = Callable[[pb.GenerateRequest, Any], AsyncIterator[pb.GenerateResponse]]


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a script gets as the context of a call in frames."""

    start: pb.CallStart
    link: RpcContext

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """That of the link, and the call's own request id."""
        return (*self.link.invocation_metadata(), (REQUEST_ID_KEY, self.start.request_id))

    def time_remaining(self) -> float | None:
        """The time that the call was given."""
        return self.start.timeout_s if self.start.HasField("timeout_s") else None


class FrameServer:
    """One GenerateMany stream. The events that are there when it writes go into one frame."""

    def __init__(self, generate: Generate, context: RpcContext, *, takes_more: bool = True) -> None:
        """`takes_more`: whether a message may have several commands."""
        self._takes_more = takes_more
        self._generate = generate
        self._context = context
        self._events: list[pb.CallEvent] = []
        self._changed = asyncio.Event()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._half_closed = False

    async def serve(self, requests: AsyncIterator[pb.GenerateManyRequest]) -> None:
        """Serves it to its end."""
        await self._context.write(pb.GenerateManyResponse(takes_more=self._takes_more))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            async for request in requests:
                for command in (request, *(request.more if self._takes_more else ())):
                    if command.HasField("start"):
                        self._calls[command.start.call] = group.create_task(self._run(command.start))
                    elif call := self._calls.pop(command.cancel, None):
                        call.cancel()
            self._half_closed = True
            self._changed.set()

    async def _write(self) -> None:
        while self._calls or self._events or not self._half_closed:
            await self._changed.wait()
            self._changed.clear()
            events, self._events = self._events, []
            if events:
                await self._context.write(pb.GenerateManyResponse(events=events))

    async def _run(self, start: pb.CallStart) -> None:
        end = pb.CallEnd()
        try:
            async with asyncio.timeout(start.timeout_s if start.HasField("timeout_s") else None):
                await self._answer(start)
        except InfermeshError as error:
            end = _end(error)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            end = _end(Unavailable("The script cancelled the call.", reason="CALL_ABANDONED"))
        except TimeoutError:
            end = _end(DeadlineExceeded("The call took too long."))
        except Exception as error:
            end = _end(Internal(f"Internal error: {error}"))
        self._tell(pb.CallEvent(call=start.call, end=end))
        self._calls.pop(start.call, None)

    async def _answer(self, start: pb.CallStart) -> None:
        request = pb.GenerateRequest.FromString(start.request)
        events: Any = self._generate(request, CallContext(start, self._context))
        async with aclosing(events):
            async for event in events:
                self._tell(pb.CallEvent(call=start.call, response=event.SerializeToString()))

    def _tell(self, event: pb.CallEvent) -> None:
        self._events.append(event)
        self._changed.set()


def _end(error: InfermeshError) -> pb.CallEnd:
    status = to_status(error)
    return pb.CallEnd(code=status.code, message=status.message, details=status.SerializeToString())
