"""Translates errors to and from the wire: InfermeshError ↔ google.rpc.Status and trailing metadata."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from infermesh_runtime.errors import Code, InfermeshError, from_code

DOMAIN = "infermesh"
DETAILS_KEY = "grpc-status-details-bin"
RETRY_AFTER_KEY = "retry-after"

MAX_MESSAGE_BYTES = 1000
MAX_DETAILS_BYTES = 3000
"""Peers refuse more than 8 KiB of metadata, where the message is percent-encoded and again in the details as base64."""
MAX_TEXT_BYTES = 300

Metadata = tuple[tuple[str, str | bytes], ...]

_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_grpc_code(code: Code) -> grpc.StatusCode:
    return _GRPC_CODES[code]


def to_status(error: InfermeshError) -> status_pb2.Status:
    """The google.rpc.Status of an error, with ErrorInfo, BadRequest if it has fields, RetryInfo if it has
    retry_after_s.

    Long texts are cut, and fields and metadata that do not fit MAX_DETAILS_BYTES are left out.
    """
    status = status_pb2.Status(code=error.code, message=shorten(error.message, MAX_MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason)
    budget = MAX_DETAILS_BYTES - status.ByteSize() - info.ByteSize() - 200
    for key, value in _within(error.metadata, budget):
        info.metadata[key] = value
    _add_detail(status, info)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        _add_detail(status, retry)
    if error.fields:
        violations = _within(error.fields, MAX_DETAILS_BYTES - status.ByteSize() - 80)
        bad_request = error_details_pb2.BadRequest()
        for field, description in violations:
            bad_request.field_violations.add(field=field, description=description)
        _add_detail(status, bad_request)
    return status


def to_trailing_metadata(error: InfermeshError, status: status_pb2.Status) -> Metadata:
    """The metadata sent with the status: its details, and when to retry, in whole seconds and at least 1."""
    details: Metadata = ((DETAILS_KEY, status.SerializeToString()),)
    if error.retry_after_s is None:
        return details
    return (*details, (RETRY_AFTER_KEY, str(max(1, math.ceil(error.retry_after_s)))))


def from_status(status: status_pb2.Status) -> InfermeshError:
    """The error that `status` stands for. Details of unknown types are ignored."""
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    seen = {type(kind): True for detail in status.details for kind in (info, bad_request, retry) if detail.Unpack(kind)}
    return from_code(
        status.code,
        status.message,
        reason=info.reason or None,
        metadata=dict(info.metadata),
        fields={v.field: v.description for v in bad_request.field_violations},
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1000 if type(retry) in seen else None,
    )


def from_rpc_error(error: grpc.RpcError) -> InfermeshError:
    """The error that a failed call stands for, with reason, metadata, fields and retry_after_s from its details.

    Details that cannot be read, or that contradict the call's code, are ignored.
    """
    code, message = _code_and_message(error)
    status = _read_details(error)
    if status is not None and status.code == code:
        return from_status(status)
    return from_code(code, message)


def shorten(text: str, limit_bytes: int) -> str:
    """`text`, cut between characters so that its UTF-8 form fits `limit_bytes`; lone surrogates are replaced."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    return encoded[: limit_bytes - 3].decode(errors="ignore") + "…"


def _within(texts: Mapping[str, str], budget_bytes: int) -> Iterable[tuple[str, str]]:
    """The first items of `texts`, shortened, as many as fit the budget once encoded."""
    for key, value in texts.items():
        item = shorten(key, MAX_TEXT_BYTES), shorten(value, MAX_TEXT_BYTES)
        budget_bytes -= sum(len(part.encode()) for part in item) + 12
        if budget_bytes < 0:
            return
        yield item


def _add_detail(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _code_and_message(error: Any) -> tuple[Code, str]:
    code = error.code() if callable(getattr(error, "code", None)) else None
    if code is None or code is grpc.StatusCode.OK:
        return Code.UNKNOWN, str(error)
    return Code(code.value[0]), error.details() or f"the server answered {code.name} without a message"


def _read_details(error: Any) -> status_pb2.Status | None:
    trailing = error.trailing_metadata() if callable(getattr(error, "trailing_metadata", None)) else None
    for key, value in trailing or ():
        if key == DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
