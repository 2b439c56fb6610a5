"""The way of Generate calls to one endpoint in frames: opens its stream, and again when it broke."""

import asyncio
import logging
from contextlib import suppress

import grpc

from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.fleet.frames.frame_stream import FrameStream
from infermesh_router.fleet.frames.turns import Turns
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor

_log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Longest wait for an endpoint to say whether it has the method."""
RETRY_S = 1.0
"""Pause before the next try after a stream that did not open."""
MOST_BODY_BYTES = 1 << 20
"""Larger requests go as calls of their own, so that the others need not wait behind them."""


class FrameLink:
    """The link to one endpoint. While it is not open, calls go to the endpoint by Generate."""

    def __init__(
        self, channel: grpc.aio.Channel, *, address: str, tasks: TaskSupervisor, turns: Turns | None = None
    ) -> None:
        """`turns`: those of the calls on all links."""
        self._channel = channel
        self._address = address
        self._tasks = tasks
        self._turns = turns or Turns()
        self._task: BackgroundTask | None = None
        self._stream: FrameStream | None = None
        self._settled = asyncio.Event()
        self._absent = False
        """Whether the endpoint does not have the method."""
        self._retry_at_s = 0.0
        self._frames = 0
        self._events = 0

    @property
    def frames(self) -> int:
        """Frames with events that came so far."""
        return self._frames + (self._stream.frames if self._stream else 0)

    @property
    def events(self) -> int:
        """Events that came in them."""
        return self._events + (self._stream.events if self._stream else 0)

    async def settle(self) -> None:
        """Opens it on a new connection, and waits until it is known whether the endpoint has the method."""
        self._absent, self._retry_at_s = False, 0.0
        self._open()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._settled.wait()

    def carries(self, body: bytes) -> bool:
        """Whether a call with this body may `start` now. If the link broke, this begins to open it again."""
        if self._stream is None or not self._stream.is_open:
            self._open()
            return False
        return len(body) <= MOST_BODY_BYTES

    def start(self, body: bytes, *, request_id: str, timeout_s: float | None) -> FrameCall:
        """Sends a serialised GenerateRequest, if the link `carries` it."""
        if self._stream is None:
            raise RuntimeError("the link is not open")
        return self._stream.start(body, request_id=request_id, timeout_s=timeout_s)

    async def close(self) -> None:
        """Ends it, and cancels its calls."""
        self._absent = True
        if self._task is not None:
            self._task.stop()
            await self._task.wait()

    def _open(self) -> None:
        if self._absent or (self._task is not None and not self._task.done):
            return
        if asyncio.get_running_loop().time() < self._retry_at_s:
            return
        self._settled.clear()
        self._task = self._tasks.start("frames", self._run, about=self._address)

    async def _run(self) -> None:
        self._stream = stream = FrameStream(self._channel, self._settled.set, self._turns)
        try:
            end = await stream.run()
        finally:
            self._stream = None
            self._frames += stream.frames
            self._events += stream.events
            self._settled.set()
        if stream.opened:
            _log.warning("the stream of frames from endpoint %s ended: %s", self._address, end.why)
        elif end.code is grpc.StatusCode.UNIMPLEMENTED:
            self._absent = True
            _log.info("endpoint %s has no frames; each of its streams is a call of its own", self._address)
        else:
            self._retry_at_s = asyncio.get_running_loop().time() + RETRY_S
            _log.info("endpoint %s did not open a stream of frames: %s", self._address, end.why)
