"""The errors that Envoy answers without the router: one table for the REST and the gRPC listener."""

from dataclasses import dataclass, replace
from typing import Final

from infermesh_envoy.options import EnvoyOptions
from infermesh_envoy.rest_paths import show_paths

DIALECTS: Final = ("anthropic", "openai")
"""Whose shapes of errors the REST listener has. The Lua filter marks requests of the first; the others get the last."""
ANTHROPIC_ERRORS: Final = {
    401: (401, "authentication_error"),
    403: (403, "permission_error"),
    404: (404, "not_found_error"),
    413: (413, "request_too_large"),
    429: (429, "rate_limit_error"),
    500: (500, "api_error"),
    503: (529, "overloaded_error"),
    504: (504, "timeout_error"),
}
"""HTTP status → the one that Anthropic has instead, and its type; the other statuses are invalid requests."""


@dataclass(frozen=True, slots=True)
class LocalError:
    """An error by its HTTP status, as both listeners answer it."""

    status: int
    """HTTP status."""
    grpc_status: int
    """What gRPC clients get instead, as in google.rpc.Code."""
    type: str
    """OpenAI's type of error."""
    code: str
    message: str
    """May contain Envoy's format commands."""

    @property
    def passes(self) -> bool:
        """Whether the client is told to try again."""
        return self.status in (503, 504)


def rest_errors(options: EnvoyOptions) -> list[LocalError]:
    """The errors of the REST listener."""
    there = show_paths(options.descriptors)
    wrong, failed, why = "invalid_request_error", "server_error", "(%RESPONSE_CODE_DETAILS%)"
    return [
        LocalError(400, 3, wrong, "bad_request", f"The request is malformed {why}. %LOCAL_REPLY_BODY%"),
        LocalError(403, 7, wrong, "forbidden", f"The request is refused {why}"),
        LocalError(404, 12, wrong, "not_found", f"There is no %REQ(:METHOD)% %REQ(:PATH)%; there are {there}"),
        LocalError(408, 4, wrong, "request_timeout", "The request did not arrive in time"),
        LocalError(413, 8, wrong, "request_too_large", "The request body is too large"),
        LocalError(426, 9, wrong, "upgrade_required", "HTTP/1.1 or HTTP/2 is required"),
        LocalError(431, 8, wrong, "headers_too_large", "The request headers are too large"),
        LocalError(500, 13, failed, "internal", f"The router's answer could not be passed on {why}"),
        LocalError(503, 14, failed, "unavailable", f"The mesh cannot serve the request now {why}; try again"),
        LocalError(504, 4, failed, "timeout", f"No data arrived for {options.timeout_s:g} s"),
    ]


def grpc_errors(options: EnvoyOptions) -> list[LocalError]:
    """The errors of the gRPC listener: the same, but where it serves nothing it says what it is and where REST is."""
    rest = f"REST is on {options.http}" if options.http.port else "REST is on another port"
    speaks_grpc = f"This port speaks gRPC and has no %REQ(:METHOD)% %REQ(:PATH)%; {rest}"
    messages = {404: speaks_grpc, 426: f"This port speaks gRPC over HTTP/2; {rest}"}
    return [replace(error, message=messages.get(error.status, error.message)) for error in rest_errors(options)]
