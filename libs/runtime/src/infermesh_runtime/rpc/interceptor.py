"""Gives each RPC a request id, turns exceptions into statuses, and tells observers how each RPC ended.

One interceptor does all of this, once an RPC. It turns every handler into gRPC's coroutine form, where a message costs
one `await context.write(message)` and no code of ours.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from infermesh_runtime.errors import Code, DeadlineExceeded, InfermeshError, Internal, InvalidArgument, Unimplemented
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc import status
from infermesh_runtime.rpc.audit import write_audit_line
from infermesh_runtime.rpc.body_budget import NO_BUDGET, Bodies
from infermesh_runtime.rpc.call_limit import NO_LIMIT, CallLimit
from infermesh_runtime.rpc.carried import CarriedCall
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_runtime.rpc.in_flight import InFlight
from infermesh_runtime.rpc.mesh_token import Guard

MAX_REQUEST_ID_CHARS = 128
_UNSENDABLE = re.compile(r"[^ -~]")

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("infermesh.access")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedRpc:
    """A completed RPC."""

    method: str
    """Full name, "/package.Service/Method", as the client sent it."""
    known: bool
    """Whether any service has that method."""
    code: Code
    duration_s: float
    peer: str
    request_id: str


RpcObserver = Callable[[CompletedRpc], None]


def log_access(rpc: CompletedRpc) -> None:
    """An RpcObserver that logs one line for each RPC; successful health checks at level debug only."""
    probe = rpc.code is Code.OK and rpc.method.startswith("/grpc.health.v1.")
    level = logging.DEBUG if probe else logging.INFO
    if not access_logger.isEnabledFor(level):
        return
    extra = {
        "method": rpc.method,
        "code": rpc.code.name,
        "duration_ms": round(rpc.duration_s * 1000, 3),
        "peer": rpc.peer,
        "request_id": rpc.request_id,
    }
    # as `log` does, but without a walk up the stack for the place in the code, which no line contains
    access_logger.handle(access_logger.makeRecord(access_logger.name, level, "", 0, "rpc", (), None, extra=extra))


class RpcInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """The server interceptor that every RPC of a service goes through.

    The request id is the client's `x-request-id` metadata, or a new one. While the handler runs it is in
    `logs.REQUEST_ID`. It is sent back in the initial metadata, or in the trailing metadata of an error without one.
    A cancelled or expired call reaches its handler as asyncio.CancelledError, at an `await` or a `yield`. Handlers must
    be coroutine functions or async generators; others fail with INTERNAL.
    """

    def __init__(
        self,
        observers: Sequence[RpcObserver] = (log_access,),
        in_flight: InFlight | None = None,
        limit: CallLimit = NO_LIMIT,
        guard: Guard | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        """`limit`: calls beyond it are refused before their request is read. `guard`: refuses calls.

        `bodies` decides, before a single request is read, whether there is memory for it.
        """
        self._observers = tuple(observers)
        self._in_flight = in_flight or InFlight()
        self._limit = limit
        self._guard = guard
        self._bodies = bodies or NO_BUDGET

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        found = await continuation(handler_call_details)
        handler = found or grpc.stream_stream_rpc_method_handler(_unimplemented(method))
        refusal = self._guard(method, handler_call_details.invocation_metadata) if self._guard else None
        if refusal is not None:
            handler = grpc.stream_stream_rpc_method_handler(_refusing(method, refusal))
        request_id = _request_id(handler_call_details.invocation_metadata)

        async def serve(requests: Any, inner: grpc.aio.ServicerContext) -> Any:
            context = RpcContext(inner, request_id)
            context.guarded = self._guard is not None and refusal is None
            context.carry = self._carry
            return await self._run(method, handler, requests, context, known=found is not None)

        return _as_raw_handler(handler, serve)

    async def _carry(self, method: str, handler: grpc.RpcMethodHandler, call: CarriedCall) -> None:
        """Runs a call that came on the stream of another one, in a task of its own, as if it had come by itself."""
        context = RpcContext(call, _request_id(call.invocation_metadata()))
        context.guarded = call.carrier.guarded
        try:
            async with asyncio.timeout(call.time_remaining()):
                await self._run(method, handler, None, context, known=True)
        except TimeoutError:  # only this timeout's own: `_run` turns those of a handler into statuses
            late = DeadlineExceeded("The call took longer than the time that its client gave it.")
            with contextlib.suppress(grpc.aio.AbortError):
                await _abort(context, late)
        except grpc.aio.AbortError:
            return  # the call has its status

    async def _run(
        self, method: str, handler: grpc.RpcMethodHandler, requests: Any, context: RpcContext, *, known: bool
    ) -> bytes | None:
        REQUEST_ID.set(context.request_id)
        started = time.perf_counter()
        with self._in_flight.entered(method, context):
            try:
                return await _serve(handler, requests, context, self._limit.entered(method), self._bodies)
            finally:
                self._observe(method, known, context, time.perf_counter() - started)

    def _observe(self, method: str, known: bool, context: RpcContext, duration_s: float) -> None:
        code = _final_code(context, duration_s)
        peer = unquote(context.peer())
        rpc = CompletedRpc(
            method=method, known=known, code=code, duration_s=duration_s, peer=peer, request_id=context.request_id
        )
        for observe in self._observers:
            observe(rpc)


def _as_raw_handler(handler: Any, serve: Callable[[Any, Any], Awaitable[Any]]) -> grpc.RpcMethodHandler:
    """A handler that gives `serve` single requests, and takes single responses, as bytes.

    So a message that cannot be read or written is an error like any other, and a call without a request does not hang.
    """
    deserialize = handler.request_deserializer if handler.request_streaming else None
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(serve, deserialize, handler.response_serializer)
    return grpc.stream_unary_rpc_method_handler(serve, deserialize, None)


async def _serve(
    handler: Any, requests: Any, context: RpcContext, counted: AbstractContextManager[None], bodies: Bodies
) -> bytes | None:
    """Runs the handler and returns its response, if it has a single one. Ends the call if the handler raises."""
    try:
        with counted:
            if handler.request_streaming:  # its handler counts each message that it reads
                with bodies.expect(context) as context.body:
                    return await _invoke(handler, requests, context)
            with bodies.expect(context) as context.body:
                return await _invoke(handler, await _read_request(handler, context, bodies.timeout_s), context)
    except grpc.aio.AbortError:
        raise
    except InfermeshError as error:
        await _abort(context, error)
    except asyncio.CancelledError:
        context.interrupted = True
        if (ending := context.ending()) is None:
            raise
        await _abort(context, ending)
    except grpc.aio.InternalError:  # raised by a write when the client is gone
        context.interrupted = True
        raise
    except Exception as error:
        await _abort(context, _translate(error, context))
    return None


async def _invoke(handler: Any, request: Any, context: RpcContext) -> bytes | None:
    behaviour = handler.stream_stream or handler.unary_stream or handler.unary_unary or handler.stream_unary
    result, response = behaviour(request, context), b""
    del request  # so that the handler alone decides how long a large one is kept
    if inspect.isasyncgen(result):
        await _write_all(result, context)
    elif inspect.isawaitable(result):
        answer = await result
        if not handler.response_streaming and context.status is Code.OK:
            response = handler.response_serializer(answer) if handler.response_serializer else answer
    else:
        raise TypeError(f"{behaviour!r} is neither a coroutine function nor an async generator")
    await context.ensure_initial_metadata()
    return None if handler.response_streaming else response


async def _read_request(handler: Any, context: RpcContext, timeout_s: float | None) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            raw = await context.read()
    except TimeoutError:
        raise DeadlineExceeded(
            f"The request did not arrive within {timeout_s:g} s.", reason="REQUEST_TIMEOUT"
        ) from None
    if raw is grpc.aio.EOF:
        raise InvalidArgument("The call has no request message.")
    context.body.arrived(len(raw))
    deserialize = handler.request_deserializer
    if deserialize is None:
        return raw
    try:
        return deserialize(raw)
    except DecodeError as error:
        raise InvalidArgument("the request message is not valid protobuf", reason="MALFORMED_MESSAGE") from error


async def _write_all(responses: Any, context: RpcContext) -> None:
    """Sends what a generator yields. An interruption is raised at its `yield`, then the generator is closed."""
    try:
        async for response in responses:
            await context.write(response)
    except (asyncio.CancelledError, grpc.aio.InternalError):
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await responses.athrow(asyncio.CancelledError())
        raise
    finally:
        await responses.aclose()


def _translate(error: Exception, context: RpcContext) -> InfermeshError:
    if isinstance(error, NotImplementedError) and context.status is Code.UNIMPLEMENTED:
        return Unimplemented("This endpoint does not implement the method.")  # raised by generated code
    logger.error("a handler failed", exc_info=error)
    problem = f"Internal error. The server's log has details under request id {context.request_id}."
    return Internal(problem, metadata={"request_id": context.request_id})


async def _abort(context: RpcContext, error: InfermeshError) -> None:
    _let_go_of_frames(error)
    rich = status.to_status(error)
    trailing = (*context.trailing_metadata(), *status.to_trailing_metadata(error, rich))
    if not context.initial_metadata_sent:
        trailing = (*trailing, (REQUEST_ID_KEY, context.request_id))
    await context.abort(status.to_grpc_code(error.code), rich.message, trailing)


def _let_go_of_frames(error: BaseException) -> None:
    """Drops the tracebacks of an error and of its causes.

    An error held by a local variable of a frame in its own traceback is a reference cycle, and these frames hold the
    whole request. A router that refused a few large requests kept a gigabyte until the next full collection.
    """
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and link.__traceback__ is not None:  # the check ends cycles, as in `raise error from error`
            link.__traceback__ = None
            chain += (link.__cause__, link.__context__)


def _final_code(context: RpcContext, duration_s: float) -> Code:
    if not context.interrupted or context.status is not Code.OK:
        return context.status
    remaining_s = context.time_remaining()
    # The client's timer fires a little before ours: by the time the request took to get here, and by the rounding of
    # the timeout sent with it, which is at most 1 %.
    expired = remaining_s is not None and remaining_s <= 0.1 + (duration_s + remaining_s) / 100
    return Code.DEADLINE_EXCEEDED if expired else Code.CANCELLED


def _request_id(metadata: Iterable[tuple[str, Any]]) -> str:
    """The client's id, cleaned so that it can be sent on: HTTP allows characters that gRPC metadata does not."""
    sent = next((value for key, value in metadata or () if key == REQUEST_ID_KEY), "")
    return _UNSENDABLE.sub("?", sent[:MAX_REQUEST_ID_CHARS]) or os.urandom(16).hex()


def _unimplemented(method: str) -> Callable[[Any, RpcContext], Awaitable[None]]:
    async def refuse(_requests: Any, _context: RpcContext) -> None:
        raise Unimplemented(f"There is no method {method}.", reason="METHOD_NOT_FOUND")

    return refuse


def _refusing(method: str, error: InfermeshError) -> Callable[[Any, RpcContext], Awaitable[None]]:
    async def refuse(_requests: Any, context: RpcContext) -> None:
        write_audit_line(context, method, {"reason": error.reason}, error.code.name)
        raise error

    return refuse
