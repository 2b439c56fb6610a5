"""Gives each RPC a request id, turns exceptions into statuses, and tells observers how each RPC ended.

One interceptor does all of this, once an RPC; handling.py runs its handler.
"""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc

from infermesh_runtime.errors import Code, DeadlineExceeded, InfermeshError, Unimplemented
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc.audit import write_audit_line
from infermesh_runtime.rpc.carried import CarriedCall
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_runtime.rpc.handling import abort, as_raw_handler, run_handler
from infermesh_runtime.rpc.in_flight import InFlight
from infermesh_runtime.rpc.limits.body_budget import NO_BUDGET, Bodies
from infermesh_runtime.rpc.limits.call_limit import NO_LIMIT, CallLimit
from infermesh_runtime.rpc.mesh_token import Guard

MAX_REQUEST_ID_CHARS = 128
_UNSENDABLE = re.compile(r"[^ -~]")

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

        return as_raw_handler(handler, serve)

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
                await abort(context, late)
        except grpc.aio.AbortError:
            return  # the call has its status

    async def _run(
        self, method: str, handler: grpc.RpcMethodHandler, requests: Any, context: RpcContext, *, known: bool
    ) -> bytes | None:
        REQUEST_ID.set(context.request_id)
        started = time.perf_counter()
        with self._in_flight.entered(method, context):
            try:
                return await run_handler(handler, requests, context, self._limit.entered(method), self._bodies)
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
