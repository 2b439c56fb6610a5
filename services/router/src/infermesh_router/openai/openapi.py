"""Describes OpenAI's API for /openapi.json."""

from collections.abc import Mapping
from typing import Any

from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.description.api import Bodies, DescribedApi
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.tokens import DetokenizeBody, TokenizeChat, TokenizeText

_BODIES: Bodies = {
    "CreateChatCompletion": (ChatRequest,),
    "CreateCompletion": (CompletionRequest,),
    "Tokenize": (TokenizeText, TokenizeChat),
    "Detokenize": (DetokenizeBody,),
    "ApplyTemplate": (TokenizeChat,),
}

OPENAI_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def openai_api(
    more: Bodies,
    *,
    answers: Mapping[str, tuple[str, ...]] | None = None,
    sent: Mapping[str, Mapping[str, Any]] | None = None,
) -> DescribedApi:
    """The API. `more`: the bodies of its calls that other rooms answer. `answers`, `sent`: see DescribedApi."""
    return DescribedApi(
        service=pb.DESCRIPTOR.services_by_name["OpenAIService"],
        bodies={**_BODIES, **more},
        error=OPENAI_ERROR,
        answers={"GetMetrics": ("text/plain",), **(answers or {})},
        sent=sent or {},
    )
