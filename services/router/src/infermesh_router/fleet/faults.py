"""Owns what an endpoint's error means: the client's, the endpoint's, or nobody's. Knows no stream and no breaker.

INTERNAL, UNKNOWN and DATA_LOSS are the endpoint's fault: they count on its breaker, and the request is tried elsewhere
once. Another endpoint that says the same is believed, for then the request is what is wrong.
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
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from infermesh_runtime.rpc.status import from_rpc_error

QUEUE_FULL = "QUEUE_FULL"
STREAM_CUT = "STREAM_CUT"
STREAM_SILENT = "STREAM_SILENT"
FIRST_TOKEN_TIMEOUT = "FIRST_TOKEN_TIMEOUT"  # noqa: S105 - a reason, not a secret
CONNECT_TIMEOUT = "CONNECT_TIMEOUT"
MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
ENDPOINT_LOST = "ENDPOINT_LOST"
ENDPOINT_STOPPED = "ENDPOINT_STOPPED"
DRAINED = "DRAINED"
"""The router itself takes the stream off the endpoint."""

_LEAVING = frozenset(
    {"WORKER_DRAINING", "WORKER_LOADING", "WORKER_FAILED", "MODEL_NOT_LOADED", "MODEL_UNLOADED", DRAINED}
    | {ENDPOINT_STOPPED}
    | {"ROUTER_DRAINING", "NO_ENDPOINT"}  # what a router says whose own endpoints are leaving
)
_PASSING = frozenset({QUEUE_FULL, "MODEL_NOT_LOADED"})
"""What its report did not say yet: its queue is full; the model was unloaded, and is loaded again where it suits."""
_ONCE = frozenset({Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS})


class Verdict(Enum):
    """What to do after an error."""

    REFUSE = auto()
    """The client's own: it is told."""
    BUSY = auto()
    """The endpoint cannot take it, as its next report will say: the request is admitted again."""
    LEAVE = auto()
    """The endpoint does not serve now, as it may: another one is tried, and nothing counts against this one."""
    FAULT = auto()
    """The endpoint failed: another one is tried."""
    FAULT_ONCE = auto()
    """The same, but only one other is."""


def judge(error: InfermeshError) -> Verdict:
    """What an error means before the first token."""
    if isinstance(error, DeviceNotAvailable):  # a router's answer, which did not say what devices are behind it
        return Verdict.LEAVE
    if isinstance(error, Unavailable):
        return Verdict.LEAVE if error.reason in _LEAVING else Verdict.FAULT
    if error.reason in _PASSING and isinstance(error, ResourceExhausted | NotFound):
        return Verdict.BUSY
    return Verdict.FAULT_ONCE if error.code in _ONCE else Verdict.REFUSE


def judge_running(error: InfermeshError) -> Verdict:
    """What an error means in the middle of a stream, which the endpoint had accepted.

    RESOURCE_EXHAUSTED and ABORTED, which the client did not cause, end the stream here and may not elsewhere.
    """
    if error.code in (Code.RESOURCE_EXHAUSTED, Code.ABORTED):
        return Verdict.LEAVE
    return judge(error)


def to_error(error: grpc.aio.AioRpcError) -> InfermeshError:
    """The error of a failed call; a connection that broke is a cut stream.

    CANCELLED is not the client's doing, of which the router learns otherwise: a server that stops cancels what it has
    just taken.
    """
    found = from_rpc_error(error)
    if isinstance(found, Cancelled):
        return Unavailable("The endpoint stopped in the middle of the call.", reason=ENDPOINT_STOPPED)
    if isinstance(found, Unavailable) and found.reason == Unavailable.reason:
        return Unavailable(f"The connection to the endpoint broke ({found.message}).", reason=STREAM_CUT)
    return found


def to_told(error: grpc.aio.AioRpcError, address: str) -> InfermeshError:
    """The error of a failed call for an operator, who is told which endpoint does not answer."""
    found = from_rpc_error(error)
    if isinstance(found, DeadlineExceeded):
        return DeadlineExceeded(f"Endpoint {address} does not answer.")
    if isinstance(found, Unavailable) and found.reason == Unavailable.reason:
        return Unavailable(f"Endpoint {address} is lost ({found.message}).", reason=ENDPOINT_LOST)
    return found


def with_retry(error: InfermeshError) -> InfermeshError:
    """The error anew, saying when to try again if it is one that passes.

    A copy, because a raised error holds the frames it passed: one that they hold too waits for the cyclic collector.
    """
    error = copy(error)
    if isinstance(error, Unavailable) and error.retry_after_s is None:
        error.retry_after_s = 1.0
    return error
