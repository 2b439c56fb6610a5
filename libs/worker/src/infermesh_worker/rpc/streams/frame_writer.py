"""Writes the events of all calls of a GenerateMany stream, those of one engine step in one message.

It asks each call for its events when it can write. So while the reader is slow, at most one frame is kept here, and
each call keeps its own outputs, merged.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker.rpc.streams.framed_call import FramedCall

FRAME_BYTES = 1 << 20
"""A frame takes no further calls beyond this size."""
MAX_READY = 1024
"""With more calls ready to be written, no further commands are read until the reader has caught up."""


OPENING = pb.GenerateManyResponse(takes_more=True).SerializeToString()


class FrameWriter:
    """Used from one event loop."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """`write` writes one message and returns when there is room for the next."""
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._ready: deque[FramedCall] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self._failed = False
        self._error: BaseException | None = None

    def ready(self, call: FramedCall) -> None:
        """The call has events. They are written once what is being dispatched now has been, unless it has failed."""
        if self._failed:
            return
        self._ready.append(call)
        if self._waiter is not None:
            self._wake()

    def close(self, error: BaseException | None = None) -> None:
        """Ends `run` once everything is written; with `error`, `run` then raises it."""
        self._closed = True
        self._error = self._error or error
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Ends `run` with this error, and writes nothing more than is being written."""
        self._failed = True
        self._ready.clear()
        self.close(error)

    async def room(self) -> None:
        """Waits while too many calls wait to be written."""
        while len(self._ready) > MAX_READY and not self._closed:
            self._room = self._loop.create_future()
            await self._room

    async def run(self) -> None:
        """Writes a message without events, and then events until it is closed."""
        await self._write(OPENING)
        while self._ready or not self._closed:
            if not self._ready:
                self._waiter = self._loop.create_future()
                await self._waiter
                continue
            for frame in _split(await self._collect()):
                await self._write(frame)
        if self._error is not None:
            raise self._error

    async def _collect(self) -> list[bytes]:
        """The events of the calls that are ready, until they fill a frame."""
        events: list[bytes] = []
        if self._take(events):
            await asyncio.sleep(0)  # lets those calls end, so that their end is in the same message
            self._take(events)
        return events

    def _take(self, events: list[bytes]) -> bool:
        """Whether a call of those that it took from is about to end."""
        size, ready, ending = 0, self._ready, False
        for _ in range(len(ready)):
            call = ready.popleft()
            size += call.take(events)
            ending = ending or call.settled
            if size > FRAME_BYTES:
                break
        if self._room is not None and len(ready) <= MAX_READY:
            _resolve(self._room)
        return ending

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        for future in (waiter, self._room):
            if future is not None:
                _resolve(future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _split(events: list[bytes]) -> Iterator[bytes]:
    """Messages that are as long as FRAME_BYTES, or have one event."""
    if sum(map(len, events)) <= FRAME_BYTES:
        if events:
            yield b"".join(events)
        return
    begin, size = 0, 0
    for index, event in enumerate(events):
        if size and size + len(event) > FRAME_BYTES:
            yield b"".join(events[begin:index])
            begin, size = index, 0
        size += len(event)
    yield b"".join(events[begin:])
