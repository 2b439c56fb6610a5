"""Judges errors of endpoints: whose fault they are, and whether to try another endpoint.

INTERNAL, UNKNOWN and DATA_LOSS count as the endpoint's fault: its breaker counts them, and the request is tried on one
other endpoint. If that one answers the same, the fault is probably in the request, and the client gets the error. The
breaker does not count that a model computed NaN for one request.
"""

from copy import copy
from enum import Enum, auto

import grpc

from infermesh_runtime.errors import (
    Cancelled,
    Code,
    DeadlineExceeded,
    DeviceNotAvailable,
    InfermeshError,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from infermesh_runtime.rpc.limits.call_limit import TOO_MANY_CALLS
from infermesh_runtime.rpc.status import from_rpc_error

QUEUE_FULL = "QUEUE_FULL"
STREAM_CUT = "STREAM_CUT"
STREAM_SILENT = "STREAM_SILENT"
FIRST_TOKEN_TIMEOUT = "FIRST_TOKEN_TIMEOUT"  # noqa: S105 - a reason, not a secret
CONNECT_TIMEOUT = "CONNECT_TIMEOUT"
MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
ENDPOINT_LOST = "ENDPOINT_LOST"
ENDPOINT_STOPPED = "ENDPOINT_STOPPED"
LOGITS_NOT_FINITE = "LOGITS_NOT_FINITE"
"""The model computes NaN for this prompt. The worker finds out whether it does for all, and then fails by name."""
ENGINE_SILENT = {"engine": "silent"}
"""Metadata of an error of silence while nothing else came from that engine either."""
DRAINED = "DRAINED"
"""The router itself moves the stream, because the endpoint is being drained."""

_LEAVING = frozenset(
    {"WORKER_DRAINING", "WORKER_LOADING", "WORKER_FAILED", "MODEL_NOT_LOADED", "MODEL_UNLOADED", DRAINED}
    | {ENDPOINT_STOPPED}
    | {"ROUTER_DRAINING", "NO_ENDPOINT"}  # from a router behind this one
    | {"FORMATS_UNAVAILABLE", "TEMPLATES_UNAVAILABLE"}  # concern only some requests, and not the endpoint for others
)
_PASSING = frozenset({QUEUE_FULL, TOO_MANY_CALLS, "MODEL_NOT_LOADED"})
"""What the endpoint's last report did not say yet: it has no room, or it has unloaded the model."""
_ONCE = frozenset({Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS})


class Verdict(Enum):
    """What to do after an error."""

    REFUSE = auto()
    """The request itself is at fault: the client gets the error."""
    BUSY = auto()
    """The endpoint has no room or no model, as its next report will say: admit the request again."""
    LEAVE = auto()
    """The endpoint is out of service on purpose: try another one; its breaker does not count it."""
    FAULT = auto()
    """The endpoint failed: try another one."""
    FAULT_ONCE = auto()
    """The endpoint failed: try another one, but only once."""


def judge(error: InfermeshError) -> Verdict:
    """What an error means before the first token."""
    if isinstance(error, DeviceNotAvailable):  # from a router, which reports no device
        return Verdict.LEAVE
    if isinstance(error, Unavailable):
        return Verdict.LEAVE if error.reason in _LEAVING else Verdict.FAULT
    if error.reason in _PASSING and isinstance(error, ResourceExhausted | NotFound):
        return Verdict.BUSY
    return Verdict.FAULT_ONCE if error.code in _ONCE else Verdict.REFUSE


def judge_running(error: InfermeshError) -> Verdict:
    """What an error means in the middle of a stream.

    The endpoint had accepted the request, so RESOURCE_EXHAUSTED and ABORTED are not the client's fault, and another
    endpoint may be able to continue.
    """
    if error.code in (Code.RESOURCE_EXHAUSTED, Code.ABORTED):
        return Verdict.LEAVE
    return judge(error)


def is_endpoints_fault(error: InfermeshError) -> bool:
    """Whether its circuit breaker counts the error: the endpoint's own fault, which other requests would meet."""
    if error.reason == LOGITS_NOT_FINITE and error.code is Code.INTERNAL:
        return False
    return judge_running(error) in (Verdict.FAULT, Verdict.FAULT_ONCE)


def is_hang(error: InfermeshError) -> bool:
    """Whether the router left the endpoint because its engine was silent to everybody."""
    return error.reason in (STREAM_SILENT, FIRST_TOKEN_TIMEOUT) and error.metadata.items() >= ENGINE_SILENT.items()


def to_error(error: grpc.aio.AioRpcError) -> InfermeshError:
    """Converts the error of a failed call; a broken connection becomes STREAM_CUT.

    CANCELLED here does not come from the client: a server that stops cancels the calls it has just accepted.
    """
    found = from_rpc_error(error)
    if isinstance(found, ResourceExhausted) and found.reason == ResourceExhausted.reason:
        found = _oversized(found)
    if isinstance(found, Cancelled):
        return Unavailable("The endpoint stopped in the middle of the call.", reason=ENDPOINT_STOPPED)
    if isinstance(found, Unavailable) and found.reason == Unavailable.reason:
        return Unavailable(f"The connection to the endpoint broke: {found.message}.", reason=STREAM_CUT)
    return found


def _oversized(found: ResourceExhausted) -> InfermeshError:
    """The error of a message that is larger than gRPC lets through, which gRPC calls RESOURCE_EXHAUSTED.

    One that the endpoint sent is its fault. One that it was sent is the client's, whose request is too large for it.
    """
    if "larger than max" not in found.message:
        return found
    if "Received" in found.message and "SERVER" not in found.message:
        return Internal("The endpoint sent a message that is larger than allowed.", reason=MALFORMED_MESSAGE)
    return InvalidArgument("The request is larger than the endpoint accepts.", reason="REQUEST_TOO_LARGE")


def operator_error(error: grpc.aio.AioRpcError, address: str) -> InfermeshError:
    """Converts the error of a call that an operator caused; the message names an endpoint that does not answer."""
    found = from_rpc_error(error)
    if isinstance(found, DeadlineExceeded):
        return DeadlineExceeded(f"Endpoint {address} did not answer in time. Check that it is running.")
    if isinstance(found, Unavailable) and found.reason == Unavailable.reason:
        return Unavailable(f"Endpoint {address} is lost: {found.message}.", reason=ENDPOINT_LOST)
    return found


def with_retry_after(error: InfermeshError) -> InfermeshError:
    """A copy of the error that also says when to retry, if it is Unavailable.

    We copy it because a raised error refers to the frames it passed through: if those refer to it too, only the cyclic
    garbage collector frees them.
    """
    error = copy(error)
    if isinstance(error, Unavailable) and error.retry_after_s is None:
        error.retry_after_s = 1.0
    return error
