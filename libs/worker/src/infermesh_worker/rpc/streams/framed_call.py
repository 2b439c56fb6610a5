"""One call of a GenerateMany stream: gives its events to the stream's writer when that asks for them."""

import asyncio
from collections.abc import Callable
from functools import partial

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import Code, InfermeshError, ResourceExhausted
from infermesh_runtime.rpc.carried import CarriedCall
from infermesh_runtime.rpc.options import MAX_MESSAGE_BYTES
from infermesh_runtime.rpc.status import DETAILS_KEY
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.rpc.prompts.told_prompt import tell_prompt_logprobs
from infermesh_worker.rpc.streams.events import (
    call_field,
    delta_event,
    end_event,
    finished_response,
    response_event,
    started_response,
)

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
        "_wake",
        "_written",
        "ended",
        "number",
        "settled",
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
        self.settled = False
        """Whether all that it has were taken, so that its task is about to go on, or to end it."""
        self._field = call_field(number)
        self._on_ready = on_ready
        self._on_end = on_end
        self._output: OutputStream | None = None
        self._started: pb.Started | None = None
        self._taken: asyncio.Future[None] | None = None
        self._failure: InfermeshError | None = None
        self._written: list[bytes] = []
        self._wake: Callable[[], None] | None = None
        self._end = b""

    async def write(self, response: bytes) -> None:
        """Returns when the writer has taken the response. For handlers whose outputs have no OutputStream."""
        self._written.append(response)
        await self._until_taken(self._on_ready)

    async def deliver(self, output: OutputStream, started: pb.Started) -> None:
        """Returns when the writer has taken every output. Raises what ended the output."""
        self._output, self._started = output, started
        self._wake = partial(self._on_ready, self)
        try:
            await self._until_taken(lambda _self: output.when_ready(self._wake))
        finally:
            output.when_ready(None)
            self._output = self._wake = None  # the latter is a reference cycle
        if output.error is not None:
            raise output.error

    async def _until_taken(self, begin: Callable[["FramedCall"], None]) -> None:
        self.settled = False
        self._taken = asyncio.get_running_loop().create_future()
        begin(self)
        await self._taken
        if self._failure is not None:
            raise self._failure

    def finish(self, call: CarriedCall) -> None:
        """Lets the call's status follow its events."""
        code = call.code()
        details = next((value for key, value in call.trailing_metadata() if key == DETAILS_KEY), b"")
        self._end = end_event(self._field, Code.OK if code is None else code.value[0], call.details(), details)
        self._on_ready(self)

    def drop(self) -> None:
        """Cancels the call: nothing more of it is taken."""
        self.ended = True
        if self.task is not None:
            self.task.cancel()

    def take(self, events: list[bytes]) -> int:
        """Appends the events that there are; returns their size in bytes."""
        if self.ended:
            return 0
        begin = len(events)
        if self._output is not None and self._failure is None:
            self._take_output(self._output, events)
        elif self._written:
            self._take_written(events)
        size = sum(map(len, events[begin:]))
        if size > MAX_EVENT_BYTES and any(len(event) > MAX_EVENT_BYTES for event in events[begin:]):
            del events[begin:]
            self._fail()
        if self._end:
            events.append(self._end)
            self.ended = True
            self._on_end(self)
        return size

    def _take_output(self, output: OutputStream, events: list[bytes]) -> None:
        deltas, finished = output.take(self._wake)
        if self._started is not None and (deltas or finished):
            if output.prompt_logprobs is not None:
                tell_prompt_logprobs(self._started, *output.prompt_logprobs)
            events.append(response_event(self._field, started_response(self._started)))
            self._started = None
        events += [delta_event(self._field, delta) for delta in deltas]
        if finished:
            events += [response_event(self._field, finished_response(end)) for end in finished]
        if output.ended:
            self._settle()

    def _take_written(self, events: list[bytes]) -> None:
        written, self._written = self._written, []
        events += [response_event(self._field, response) for response in written]
        self._settle()

    def _fail(self) -> None:
        problem = f"An event of this call takes more than {MAX_EVENT_BYTES} bytes. Ask for fewer log probabilities."
        self._failure = ResourceExhausted(problem, reason="RESPONSE_TOO_LARGE")
        self._settle()

    def _settle(self) -> None:
        self.settled = True
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
