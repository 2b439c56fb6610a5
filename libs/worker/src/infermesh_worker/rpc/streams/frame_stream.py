"""Serves a GenerateMany stream: starts and cancels the calls that it carries, each in a task of its own."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import grpc
from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import InfermeshError, InvalidArgument
from infermesh_runtime.rpc.carried import CarriedCall
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_worker.rpc.streams.frame_writer import FrameWriter
from infermesh_worker.rpc.streams.framed_call import FramedCall

GENERATE = "/infermesh.inference.v1.InferenceService/Generate"
"""The method that a carried call counts as."""
MAX_TIMEOUT_S = 1e9

Behaviour = Callable[[pb.GenerateRequest, RpcContext], Awaitable[None]]
"""Runs a request as a Generate call. Responses are serialised."""


class FrameStream:
    """Used from one event loop."""

    def __init__(self, context: RpcContext, behaviour: Callable[[FramedCall], Behaviour]) -> None:
        """`behaviour` says how a call is run, which may write its responses to the context or deliver its outputs."""
        self._context = context
        self._behaviour = behaviour
        self._writer = FrameWriter(self._write)
        self._calls: dict[int, FramedCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_number = -1
        self._complete = False
        self._error: InfermeshError | None = None

    async def run(self) -> None:
        """Serves until the client has half-closed the stream and the last call has ended.

        Cancelling it cancels all calls. Raises InvalidArgument for a message that is no command, and, after the last
        call, what a stopping server ends its calls with.
        """
        self._context.on_end = self._stop
        reading = self._own(asyncio.create_task(self._read()))
        try:
            await self._writer.run()
        finally:
            self._context.on_end = None
            for task in (reading, *self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _write(self, frame: bytes) -> None:
        await self._context.write(frame)

    async def _read(self) -> None:
        while True:
            await self._writer.room()
            raw = await self._context.read()
            if raw is grpc.aio.EOF:
                break
            command = _parse(raw)
            self._obey(command)
            for more in command.more:
                self._obey(more)
        self._complete = True
        self._close_if_done()

    def _stop(self, error: InfermeshError) -> None:
        """Takes no further commands; `run` raises `error` after the calls, which the server ends too."""
        self._error, self._complete = error, True
        self._close_if_done()

    def _obey(self, command: pb.GenerateManyRequest) -> None:
        if self._error is not None:
            return
        if command.HasField("start"):
            self._start(command.start)
        elif (call := self._calls.pop(command.cancel, None)) is not None:
            call.drop()
            self._close_if_done()

    def _start(self, command: pb.CallStart) -> None:
        problem = self._problem(command)
        if problem is not None and (old := self._calls.pop(command.call, None)) is not None:
            old.drop()  # this number can only end once
        self._last_number = max(self._last_number, command.call)
        call = FramedCall(command.call, self._writer.ready, self._forget)
        own = ((REQUEST_ID_KEY, command.request_id),)
        carried = CarriedCall(self._context, command.request, own, call.write)
        if command.HasField("timeout_s") and problem is None:
            carried.set_timeout(min(command.timeout_s, MAX_TIMEOUT_S))
        behaviour = self._behaviour(call) if problem is None else _refusing(problem)
        self._calls[call.number] = call
        call.task = self._own(asyncio.create_task(self._serve(call, carried, behaviour)))

    def _problem(self, command: pb.CallStart) -> InvalidArgument | None:
        if command.call <= self._last_number:
            return _invalid("call", f"must be larger than {self._last_number}, as on this stream, got {command.call}")
        if math.isnan(command.timeout_s):
            return _invalid("timeout_s", "must be a number of seconds, got NaN")
        return None

    async def _serve(self, call: FramedCall, carried: CarriedCall, behaviour: Behaviour) -> None:
        handler = grpc.unary_stream_rpc_method_handler(behaviour, pb.GenerateRequest.FromString)
        await self._context.carry(GENERATE, handler, carried)
        call.finish(carried)

    def _own(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._let_go)
        return task

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._writer.fail(error)

    def _forget(self, call: FramedCall) -> None:
        if self._calls.get(call.number) is call:
            del self._calls[call.number]
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._complete and not self._calls:
            self._writer.close(self._error)


def _parse(raw: bytes) -> pb.GenerateManyRequest:
    try:
        command = pb.GenerateManyRequest.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument("a message of the stream is not valid protobuf", reason="MALFORMED_MESSAGE") from error
    if any(each.WhichOneof("command") is None for each in (command, *command.more)):
        raise InvalidArgument("A message of the stream, and each of its `more`, must set `start` or `cancel`.")
    return command


def _refusing(error: InfermeshError) -> Behaviour:
    async def refuse(_request: pb.GenerateRequest, _context: RpcContext) -> None:
        raise error

    return refuse


def _invalid(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"start.{field} {problem}", fields={f"start.{field}": problem})
