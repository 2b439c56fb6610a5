"""Writes an audit line for each admin action: who did what to what, and how it ended."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from infermesh_runtime.errors import Code, InfermeshError
from infermesh_runtime.importing.network_imports import redacted
from infermesh_runtime.rpc.context import RpcContext

audit_logger = logging.getLogger("infermesh.audit")
BEGUN = "BEGUN"
_MAX_VALUE_CHARS = 200


@contextmanager
def audited(context: RpcContext, request: Message, *, lasting: bool = False, who: str = "") -> Iterator[None]:
    """Writes a line when the block ends: the result is OK or the name of the error's code.

    `lasting` also writes one when the block begins, with the result BEGUN: for calls that stay open. `who` names the
    caller; "": as the call shows.
    """
    action = type(request).__name__.removesuffix("Request")
    target = MessageToDict(request, preserving_proto_field_name=True)
    if lasting:
        write_audit_line(context, action, target, BEGUN, who)
    result = Code.INTERNAL.name
    try:
        yield
        result = Code.OK.name
    except InfermeshError as error:
        result = error.code.name
        raise
    except (asyncio.CancelledError, GeneratorExit):
        result = "ENDED" if lasting else Code.CANCELLED.name
        raise
    finally:
        write_audit_line(context, action, target, result, who)


def write_audit_line(context: RpcContext, action: str, target: Mapping[str, Any], result: str, who: str = "") -> None:
    """Writes the line. A log line has its time, and its request id if the call has one."""
    extra = {
        "action": action,
        "target": {name: redacted(str(value))[:_MAX_VALUE_CHARS] for name, value in target.items()},
        "result": result,
        "peer": unquote(context.peer()),
        "who": who or _who(context),
    }
    audit_logger.info("admin", extra=extra)


def _who(context: RpcContext) -> str:
    """How the caller showed who it is: the name in its certificate, the mesh token, or the owner of the socket."""
    names = (context.auth_context() or {}).get("x509_common_name") or ()
    if names:
        return f"certificate {names[0].decode(errors='replace')}"
    if context.peer().startswith("unix:"):
        return "owner of the socket"
    return "mesh token" if context.guarded else "unknown"
