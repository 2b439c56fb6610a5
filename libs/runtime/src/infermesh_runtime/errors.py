"""The error tree of all infermesh processes; each class stands for a gRPC status code.

This module does not import gRPC: `rpc.status` turns these errors into statuses and back.

InfermeshError
├── InvalidArgument
│   └── ContextLengthExceeded
├── NotFound
│   └── ModelNotFound
├── AlreadyExists
├── FailedPrecondition
│   └── DeviceNotAvailable
├── ResourceExhausted
├── Unauthenticated
├── PermissionDenied
├── Unavailable
├── DeadlineExceeded
├── Cancelled
├── Unimplemented
└── Internal
"""

# ruff: noqa: N818 - a class is named after its status code

from collections.abc import Mapping
from enum import IntEnum


class Code(IntEnum):
    """The canonical gRPC status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class InfermeshError(Exception):
    """An error that is reported to a client; its class stands for the status code.

    `message` is for people and reaches the client unchanged. `reason` (UPPER_SNAKE_CASE) and `metadata` are for
    programs, as in google.rpc.ErrorInfo. `fields` maps field paths ("sampling.temperature") to what is wrong with them,
    as in google.rpc.BadRequest. `retry_after_s` says when a retry may help; None makes no promise.
    """

    code: Code = Code.UNKNOWN
    reason: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.fields: Mapping[str, str] = dict(fields or {})
        self.retry_after_s = retry_after_s


class InvalidArgument(InfermeshError):
    """The request is wrong, whatever the state of the system; `fields` says where."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"


class ContextLengthExceeded(InvalidArgument):
    """The prompt leaves no room in the context; metadata holds `prompt_tokens` and `context_length`."""

    reason = "CONTEXT_LENGTH_EXCEEDED"


class NotFound(InfermeshError):
    """Something named in the request does not exist."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"


class ModelNotFound(NotFound):
    """No endpoint serves the model."""

    reason = "MODEL_NOT_FOUND"


class AlreadyExists(InfermeshError):
    """What the request would make is there already."""

    code = Code.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class FailedPrecondition(InfermeshError):
    """The system is not in the state that the request needs, and a retry does not help."""

    code = Code.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class DeviceNotAvailable(FailedPrecondition):
    """The requested device does not exist on this machine."""

    reason = "DEVICE_NOT_AVAILABLE"


class ResourceExhausted(InfermeshError):
    """Memory, a queue or a quota is full."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "RESOURCE_EXHAUSTED"


class Unauthenticated(InfermeshError):
    """The caller has not shown who it is, or not in a way that is accepted."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDenied(InfermeshError):
    """The caller is known, but may not do this."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class Unavailable(InfermeshError):
    """Cannot serve now; another endpoint, or a later retry, may."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class DeadlineExceeded(InfermeshError):
    """The call's deadline passed."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(InfermeshError):
    """The call was cancelled, usually by its client."""

    code = Code.CANCELLED
    reason = "CANCELLED"


class Unimplemented(InfermeshError):
    """The endpoint does not support this."""

    code = Code.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class Internal(InfermeshError):
    """A bug or fault in infermesh."""

    code = Code.INTERNAL
    reason = "INTERNAL"


_SPECIFIC: tuple[type[InfermeshError], ...] = (ContextLengthExceeded, ModelNotFound, DeviceNotAvailable)
_GENERAL: tuple[type[InfermeshError], ...] = (
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    Unauthenticated,
    PermissionDenied,
    Unavailable,
    DeadlineExceeded,
    Cancelled,
    Unimplemented,
    Internal,
)
_BY_CODE = {cls.code: cls for cls in _GENERAL}
_BY_CODE_AND_REASON = {(cls.code, cls.reason): cls for cls in _SPECIFIC}


def from_code(
    code: int,
    message: str,
    *,
    reason: str | None = None,
    metadata: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
    retry_after_s: float | None = None,
) -> InfermeshError:
    """The error whose class stands for `code` and, if there is a more specific class, for `reason`.

    A code without a class gives an InfermeshError that carries it. Raises ValueError for OK and for unknown numbers.
    """
    known = Code(code)
    if known is Code.OK:
        raise ValueError("OK is not an error")
    cls = _BY_CODE_AND_REASON.get((known, reason or "")) or _BY_CODE.get(known, InfermeshError)
    if cls is InfermeshError:
        reason = reason or known.name
    error = cls(message, reason=reason, metadata=metadata, fields=fields, retry_after_s=retry_after_s)
    error.code = known
    return error
