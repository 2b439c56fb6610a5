"""Makes the errors that calls on a link end with: the same that a Generate call of its own would end with."""

import asyncio
from collections.abc import Callable

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.faults import MALFORMED_MESSAGE
from infermesh_runtime.errors import ResourceExhausted, Unavailable
from infermesh_runtime.rpc.status import DETAILS_KEY

MakeEnd = Callable[[], BaseException]
"""Makes what reading a call raises at its end. Each reader gets an exception of its own, with its own traceback."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PASSED_ON = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""Statuses of a whole link that say of each call what they would say of a Generate call."""

cancelled: MakeEnd = asyncio.CancelledError
complete: MakeEnd = StopAsyncIteration


class MalformedFrameError(Exception):
    """An endpoint sent a frame that the contract does not allow."""


def status(code: grpc.StatusCode, message: str, details: bytes = b"") -> MakeEnd:
    """A gRPC status, with the serialised google.rpc.Status if there is one."""
    metadata = ((DETAILS_KEY, details),) if details else ()
    return lambda: grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=message)


def of_end(end: pb.CallEnd) -> MakeEnd:
    """How a call ended, as its endpoint says."""
    if not end.code:
        return complete
    return status(_CODES.get(end.code, grpc.StatusCode.UNKNOWN), end.message, end.details)


def out_of_time() -> MakeEnd:
    """The deadline of a call has passed."""
    return status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def of_link(error: grpc.aio.AioRpcError) -> MakeEnd:
    """The link broke: for its calls that is what a broken connection is to a Generate call."""
    if error.code() in _PASSED_ON:
        details = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), b"")
        return status(error.code(), error.details() or "", details)
    return status(grpc.StatusCode.UNAVAILABLE, f"{error.code().name}: {error.details()}")


def link_ended() -> MakeEnd:
    """The endpoint ended the link before its calls."""
    return status(grpc.StatusCode.UNAVAILABLE, "it ended the stream of frames before the call")


def closed() -> MakeEnd:
    """The router closed the link. Not CancelledError: a task that is not cancelled itself might end of it unnoticed."""
    return status(grpc.StatusCode.CANCELLED, "the router closed its connection to the endpoint")


def reader_failed() -> MakeEnd:
    """The router itself failed while it read the link."""
    return status(grpc.StatusCode.UNAVAILABLE, "the router failed to read its stream of frames")


def malformed(what: MalformedFrameError) -> MakeEnd:
    """The endpoint broke the contract, so nothing else that the link says is trusted."""
    problem = f"The endpoint sent a frame that {what}."
    return lambda: Unavailable(problem, reason=MALFORMED_MESSAGE)


def unread(most_bytes: int) -> MakeEnd:
    """The client reads so slowly that too much waits for it."""
    problem = f"More than {most_bytes} bytes of the answer wait for a client that does not read them."
    return lambda: ResourceExhausted(problem, reason="SLOW_READER")
