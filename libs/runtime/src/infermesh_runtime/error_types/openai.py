"""OpenAI's type of error for each status code: one table for the router and for Envoy's Lua filter.

`tools/error_types.py` writes it into deploy/envoy's errors.lua. This module imports no gRPC.
"""

from infermesh_runtime.errors import Code

SERVER_ERROR = "server_error"
OPENAI_ERROR_TYPES = {
    Code.CANCELLED: SERVER_ERROR,
    Code.UNKNOWN: SERVER_ERROR,
    Code.INVALID_ARGUMENT: "invalid_request_error",
    Code.DEADLINE_EXCEEDED: SERVER_ERROR,
    Code.NOT_FOUND: "invalid_request_error",
    Code.ALREADY_EXISTS: "invalid_request_error",
    Code.PERMISSION_DENIED: "permission_error",
    Code.RESOURCE_EXHAUSTED: "rate_limit_error",
    Code.FAILED_PRECONDITION: "invalid_request_error",
    Code.ABORTED: "invalid_request_error",
    Code.OUT_OF_RANGE: "invalid_request_error",
    Code.UNIMPLEMENTED: SERVER_ERROR,
    Code.INTERNAL: SERVER_ERROR,
    Code.UNAVAILABLE: SERVER_ERROR,
    Code.DATA_LOSS: SERVER_ERROR,
    Code.UNAUTHENTICATED: "authentication_error",
}


def lua_tables() -> str:
    """The names and the types of codes as Lua tables."""
    lines = ["local NAMES, TYPES = {}, {} -- google.rpc.Code -> its name, OpenAI's type"]
    lines += [
        f'NAMES[{code.value}], TYPES[{code.value}] = "{code.name.lower()}", "{kind}"'
        for code, kind in OPENAI_ERROR_TYPES.items()
    ]
    return "\n".join(lines) + "\n"
