"""Says errors in Anthropic's words. Makes its error objects for streams; Envoy makes those before an answer begins."""

from typing import Any

from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.job import Job
from infermesh_runtime.error_types.anthropic import error_type
from infermesh_runtime.errors import ContextLengthExceeded, InfermeshError


def error_object(error: InfermeshError, request_id: str) -> dict[str, Any]:
    """The data of an `error` event."""
    told = {
        "type": error_type(error.code),
        "message": error.message,
        "details": {"error_code": error.reason.lower()},
    }
    return {"type": "error", "error": told, "request_id": request_id}


def rename_error(error: InfermeshError, job: Job) -> InfermeshError:
    """The error of an endpoint with this API's names of the fields."""
    tokens, most = (error.metadata.get(name) for name in ("prompt_tokens", "context_length"))
    if isinstance(error, ContextLengthExceeded) and tokens and most:
        # coding agents look for these words, and then make the conversation shorter
        told = f"prompt is too long: {tokens} tokens > {most} maximum"
        return ContextLengthExceeded(told, metadata=error.metadata, fields={"messages": told})
    return rename_fields(error, job.field_names)
