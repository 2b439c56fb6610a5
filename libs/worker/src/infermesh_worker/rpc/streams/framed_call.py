"""One call of a GenerateMany stream: gives its events to the stream's writer when that asks for them."""

import asyncio
from collections.abc import Callable

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import Code, InfermeshError, ResourceExhausted
from infermesh_runtime.rpc.carried import CarriedCall
from infermesh_runtime.rpc.options import MAX_MESSAGE_BYTES
from infermesh_runtime.rpc.status import DETAILS_KEY
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.rpc.streams.events import (
    call_field,
    delta_response,
    end_event,
    finished_response,
    response_event,
    started_response,
)
from infermesh_worker.rpc.told_prompt import tell_prompt_logprobs

MAX_EVENT_BYTES = MAX_MESSAGE_BYTES - 64
"""Longest event, so that it fits into a message. As with Generate, a call with a longer one fails."""


class FramedCall:
    """The outputs stay in the engine's OutputStream, where they are merged, until the writer takes them."""

    __slots__ = (
        "_end",
        "_failure",
        "_field",
        "_on_end",
        "_on_ready",
        "_output",
        "_started",
        "_taken",
        "_written",
        "ended",
        "number",
        "task",
    )

    def __init__(
        self, number: int, on_ready: Callable[["FramedCall"], None], on_end: Callable[["FramedCall"], None]
    ) -> None:
        """`on_ready` is called when there is something to take, `on_end` when the last event was taken."""
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.ended = False
        """Whether nothing more of it will be taken."""
        self._field = call_field(number)
        self._on_ready = on_ready
        self._on_end = on_end
        self._output: OutputStream | None = None
        self._started: pb.Started | None = None
        self._taken: asyncio.Future[None] | None = None
        self._failure: InfermeshError | None = None
        self._written: list[bytes] = []
        self._end = b""

    async def write(self, response: bytes) -> None:
        """Returns when the writer has taken the response. For handlers whose outputs have no OutputStream."""
        self._taken = asyncio.get_running_loop().create_future()
        self._written.append(response)
        self._ready()
        await self._taken
        if self._failure is not None:
            raise self._failure

    async def deliver(self, output: OutputStream, started: pb.Started) -> None:
        """Returns when the writer has taken every output. Raises what ended the output."""
        self._output, self._started = output, started
        self._taken = asyncio.get_running_loop().create_future()
        output.when_ready(self._ready)
        try:
            await self._taken
        finally:
            self._output = None
            output.when_ready(None)
        if (error := self._failure or output.error) is not None:
            raise error

    def finish(self, call: CarriedCall) -> None:
        """Lets the call's status follow its events."""
        code = call.code()
        details = next((value for key, value in call.trailing_metadata() if key == DETAILS_KEY), b"")
        self._end = end_event(self._field, Code.OK if code is None else code.value[0], call.details(), details)
        self._ready()

    def drop(self) -> None:
        """Cancels the call: nothing more of it is taken."""
        self.ended = True
        if self.task is not None:
            self.task.cancel()

    def take(self, events: list[bytes]) -> int:
        """Appends the events that there are; returns their size in bytes."""
        if self.ended:
            return 0
        size = 0
        try:
            if self._output is not None and self._failure is None:
                size = self._take_output(self._output, events)
            elif self._written:
                size = self._take_written(events)
        except ResourceExhausted as error:
            self._failure = error
            self._settle()
        if self._end:
            events.append(self._end)
            self.ended = True
            size += len(self._end)
            self._on_end(self)
        return size

    @property
    def settled(self) -> bool:
        """Whether its outputs have all been taken, so that its task is about to end it."""
        return self._taken is not None and self._taken.done() and not self.ended

    def _take_output(self, output: OutputStream, events: list[bytes]) -> int:
        deltas, finished = output.take()
        size = 0
        if self._started is not None and (deltas or finished):
            if output.prompt_logprobs is not None:
                tell_prompt_logprobs(self._started, *output.prompt_logprobs)
            size = self._add(events, started_response(self._started))
            self._started = None
        for delta in deltas:
            size += self._add(events, delta_response(delta))
        for end in finished:
            size += self._add(events, finished_response(end))
        if output.ended:
            self._settle()
        else:
            output.when_ready(self._ready)
        return size

    def _take_written(self, events: list[bytes]) -> int:
        written, self._written = self._written, []
        size = sum(self._add(events, response) for response in written)
        self._settle()
        return size

    def _add(self, events: list[bytes], response: bytes) -> int:
        event = response_event(self._field, response)
        if len(event) > MAX_EVENT_BYTES:
            raise ResourceExhausted(
                f"An event of this call takes {len(event)} bytes; at most {MAX_EVENT_BYTES} can be sent. Ask for fewer "
                "log probabilities.",
                reason="RESPONSE_TOO_LARGE",
            )
        events.append(event)
        return len(event)

    def _ready(self) -> None:
        self._on_ready(self)

    def _settle(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
