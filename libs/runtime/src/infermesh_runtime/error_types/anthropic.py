"""Anthropic's statuses and types of errors: one table for the router and for Envoy's Lua filter.

`tools/error_types.py` writes it into deploy/envoy's errors.lua. This module imports no gRPC.
"""

from infermesh_runtime.errors import Code

API_ERROR = "api_error"
OVERLOADED = 529
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: API_ERROR,
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
"""HTTP status → type. Other statuses below 500 are invalid requests, and those above are faults of the API."""
STATUSES = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNAVAILABLE: OVERLOADED,
    Code.UNAUTHENTICATED: 401,
}
"""gRPC code → HTTP status; 500 for the others."""


def error_type(code: Code) -> str:
    """The type of an error."""
    return type_of_status(STATUSES.get(code, 500))


def type_of_status(status: int) -> str:
    """The type of an error with this HTTP status."""
    return ERROR_TYPES.get(status) or (ERROR_TYPES[400] if status < 499 else API_ERROR)


def lua_table() -> str:
    """The types of statuses as a Lua table."""
    lines = ["local ANTHROPIC = {} -- HTTP status -> Anthropic's type"]
    lines += [f'ANTHROPIC[{status}] = "{kind}"' for status, kind in ERROR_TYPES.items()]
    return "\n".join(lines) + "\n"
