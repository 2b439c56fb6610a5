"""Describes Anthropic's API for /openapi.json."""

from typing import Any

from infermesh.anthropic.v1 import anthropic_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.anthropic.models import VERSION_KEY
from infermesh_router.anthropic.schema import CountBody, MessagesBody
from infermesh_router.description.api import ERRORS, DescribedApi
from infermesh_runtime.error_types.anthropic import ERROR_TYPES, OVERLOADED

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"enum": sorted(set(ERROR_TYPES.values()))},
                "message": {"type": "string"},
                "details": {"type": "object", "properties": {"error_code": {"type": ["string", "null"]}}},
            },
        },
        "request_id": {"type": "string"},
    },
}
_MODELS = openai_pb2.DESCRIPTOR.services_by_name["OpenAIService"].methods_by_name

ANTHROPIC_API = DescribedApi(
    service=pb.DESCRIPTOR.services_by_name["AnthropicService"],
    prefix="Anthropic",
    bodies={"CreateMessage": (MessagesBody,), "CountTokens": (CountBody,)},
    error=_ERROR,
    errors={OVERLOADED if status == 503 else status: text for status, text in ERRORS.items()},
    header=VERSION_KEY,
    shared=frozenset(_MODELS[name].full_name for name in ("ListModels", "GetModel")),
)
