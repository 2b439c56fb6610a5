"""Runs the handler of one RPC: reads its request, sends its responses, and turns what it raises into a status.

Every handler takes gRPC's coroutine form, where a message costs one `await context.write(message)` and no code of ours.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from infermesh_runtime.errors import Code, DeadlineExceeded, InfermeshError, Internal, InvalidArgument, Unimplemented
from infermesh_runtime.rpc import status
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_runtime.rpc.limits.body_budget import Bodies

logger = logging.getLogger(__name__)


def as_raw_handler(handler: Any, serve: Callable[[Any, Any], Awaitable[Any]]) -> grpc.RpcMethodHandler:
    """A handler that gives `serve` single requests, and takes single responses, as bytes.

    So a message that cannot be read or written is an error like any other, and a call without a request does not hang.
    """
    deserialize = handler.request_deserializer if handler.request_streaming else None
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(serve, deserialize, handler.response_serializer)
    return grpc.stream_unary_rpc_method_handler(serve, deserialize, None)


async def run_handler(
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
        await abort(context, error)
    except asyncio.CancelledError:
        context.interrupted = True
        if (ending := context.ending()) is None:
            raise
        await abort(context, ending)
    except grpc.aio.InternalError:  # raised by a write when the client is gone
        context.interrupted = True
        raise
    except Exception as error:
        await abort(context, _translate(error, context))
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


async def abort(context: RpcContext, error: InfermeshError) -> None:
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
