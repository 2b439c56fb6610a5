"""What came back for a request: its status, what an error names, and whether a stream came to its end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infermesh_client.told import plain

IGNORED_HEADER = "x-infermesh-ignored-fields"
_MESH_HEADERS = "x-infermesh-"
_NOT_IMPLEMENTED = 501
_NOT_ABOUT_FIELDS = frozenset({401, 403, 407, 408, 429})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or the lack of one."""

    status: int = 0
    """0: none came."""
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    """What an error says, in full."""
    param: str = ""
    """The field that an error names; "" if none."""
    problem: str = ""
    """Why an answer that was not refused is no whole answer; "" if it is one."""
    has_usage: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether a whole answer came."""
        return 200 <= self.status < 300 and not self.problem

    @property
    def is_refusal(self) -> bool:
        """Whether the server refuses what the request asks for, not who asks, and not because it is busy."""
        refused = 400 <= self.status < 500 or self.status == _NOT_IMPLEMENTED
        return refused and self.status not in _NOT_ABOUT_FIELDS

    @property
    def is_from_mesh(self) -> bool:
        """Whether the server is one that names ignored fields."""
        return any(name.startswith(_MESH_HEADERS) for name in self.headers)

    def describe(self) -> str:
        """Its status and message, or its problem."""
        return self.problem or f"{self.status} {self.message}".strip()


def read_error(status: int, headers: Mapping[str, str], content: bytes) -> Reply:
    """The reply of an error status, in any API's shape."""
    text = content.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Reply(status, headers, message=plain(text))
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return Reply(status, headers, message=plain(error))
    message = error.get("message") or error.get("detail") or document
    param = error.get("param")
    return Reply(status, headers, message=plain(message), param=param if isinstance(param, str) else "")


def event_error(event: Mapping[str, Any]) -> str:
    """What an event of a stream says went wrong; "" if nothing did."""
    error = event.get("error")
    response = event.get("response")
    if event.get("type") == "response.failed" and isinstance(response, dict):
        error = response.get("error")
    if not error:
        return ""
    return plain(error.get("message", error) if isinstance(error, dict) else error)
