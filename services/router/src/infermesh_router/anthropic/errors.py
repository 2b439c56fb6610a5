"""Makes Anthropic's error objects for streams; Envoy makes those of answers that have not begun."""

from typing import Any

from infermesh_runtime.anthropic_errors import error_type
from infermesh_runtime.errors import InfermeshError


def error_object(error: InfermeshError, request_id: str) -> dict[str, Any]:
    """The data of an `error` event."""
    told = {"type": error_type(error.code), "message": error.message}
    return {"type": "error", "error": told, "request_id": request_id}
