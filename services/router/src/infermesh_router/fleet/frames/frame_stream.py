"""One GenerateMany stream: sends the commands of its calls, and hands each event of a frame to its call."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.frames import faults
from infermesh_router.fleet.frames.faults import MakeEnd, MalformedFrameError
from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.fleet.frames.turns import Turns
from infermesh_runtime.background.tasks import is_cancelled

GENERATE_MANY = "/infermesh.inference.v1.InferenceService/GenerateMany"
_REMEMBERED = 1024
"""So many calls that ended last are remembered, to find out when one ends twice."""
_MORE_BYTES = 1 << 18
"""A message takes no further commands beyond this size: the endpoint begins none before it has read all."""


class StreamEnd(NamedTuple):
    """How a stream ended."""

    code: grpc.StatusCode
    why: str


class FrameStream:
    """A stream, from `run` until that returns. Calls may start once it is open."""

    def __init__(self, channel: grpc.aio.Channel, on_open: Callable[[], None], turns: Turns | None = None) -> None:
        """`on_open` is called when the endpoint has said that it has the method. `turns`: those of all calls."""
        self._channel = channel
        self._turns = turns or Turns()
        self._on_open = on_open
        self._calls: dict[int, FrameCall] = {}
        self._last = 0
        """Number of the call that began last."""
        self._ended: deque[int] = deque(maxlen=_REMEMBERED)
        self._commands: deque[pb.GenerateManyRequest] = deque()
        self._writer: asyncio.Future[None] | None = None
        self._over = False
        self._takes_more = False
        """Whether the endpoint takes several commands in a message."""
        self.opened = False
        """Whether the endpoint has said that it has the method."""
        self.frames = 0
        """Frames with events so far."""
        self.events = 0
        """Events in them."""

    @property
    def is_open(self) -> bool:
        """Whether calls may start."""
        return self.opened and not self._over

    def start(self, body: bytes, *, request_id: str, timeout_s: float | None) -> FrameCall:
        """Begins a call with a serialised GenerateRequest."""
        self._last = number = self._last + 1
        call = self._calls[number] = FrameCall(partial(self._abandon, number), timeout_s=timeout_s, turns=self._turns)
        begin = pb.CallStart(call=number, request=body, request_id=request_id, timeout_s=timeout_s)
        self._send(pb.GenerateManyRequest(start=begin))
        return call

    async def run(self) -> StreamEnd:
        """Reads the stream to its end, which ends all its calls."""
        end, make_end = StreamEnd(grpc.StatusCode.CANCELLED, "the channel was closed"), faults.reader_failed()
        stream = self._channel.stream_stream(GENERATE_MANY, pb.GenerateManyRequest.SerializeToString)(self._to_send())
        try:
            async for frame in stream:
                self._take(frame)
            end, make_end = StreamEnd(grpc.StatusCode.OK, "the endpoint ended it"), faults.link_ended()
        except grpc.aio.AioRpcError as error:
            end, make_end = StreamEnd(error.code(), f"{error.code().name}: {error.details()}"), faults.of_link(error)
        except MalformedFrameError as error:
            end, make_end = StreamEnd(grpc.StatusCode.DATA_LOSS, f"a frame {error}"), faults.malformed(error)
        except asyncio.CancelledError:  # if not ours, the channel was closed
            make_end = faults.closed()
            if is_cancelled():
                raise
        finally:
            self._close(make_end)
            stream.cancel()
        return end

    def _take(self, frame: bytes) -> None:
        """Hands over the events of a frame. Raises MalformedFrameError."""
        try:
            response = pb.GenerateManyResponse.FromString(frame)
        except DecodeError:
            raise MalformedFrameError("cannot be parsed") from None
        if not self.opened:
            self.opened, self._takes_more = True, response.takes_more
            self._on_open()
        calls, events, number = self._calls, response.events, self.frames
        for event in events:
            call = calls.get(event.call)
            if call is None:
                self._check_late(event.call)
            elif message := event.response:
                call.put(message, number)
            else:
                self._take_other(call, event)
        if events:
            self.frames += 1
            self.events += len(events)

    def _take_other(self, call: FrameCall, event: pb.CallEvent) -> None:
        """An end, or an empty message, which the reader of the call will not like."""
        if event.HasField("end"):
            del self._calls[event.call]
            self._ended.append(event.call)
            call.end(faults.of_end(event.end))
        elif event.HasField("response"):
            call.put(event.response, self.frames)
        else:
            raise MalformedFrameError("has an event without content")

    def _check_late(self, number: int) -> None:
        """An event of a call that we have just cancelled was on its way. Raises MalformedFrameError for any other."""
        if not 0 < number <= self._last:
            raise MalformedFrameError(f"belongs to call {number}, which never began")
        if number in self._ended:
            raise MalformedFrameError(f"belongs to call {number}, which has ended")

    def _abandon(self, number: int) -> None:
        if self._calls.pop(number, None) is not None:
            self._send(pb.GenerateManyRequest(cancel=number))

    def _send(self, command: pb.GenerateManyRequest) -> None:
        self._commands.append(command)
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    async def _to_send(self) -> AsyncIterator[pb.GenerateManyRequest]:
        """The commands, as they come. gRPC reads this in a task of its own, which ends only when this does."""
        while not self._over:
            while self._commands:
                yield self._next_message()
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def _next_message(self) -> pb.GenerateManyRequest:
        """The next command, with those that wait behind it: what a message costs depends little on its length."""
        command = self._commands.popleft()
        if self._takes_more and self._commands:
            size, more = len(command.start.request), []
            while self._commands and size <= _MORE_BYTES:
                more.append(self._commands.popleft())
                size += len(more[-1].start.request)
            command.more.extend(more)
        return command

    def _close(self, make_end: MakeEnd) -> None:
        self._over = True
        self._wake_writer()
        self._commands.clear()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(make_end)
