"""Runs the OpenAI conversion on bodies that tests give as keyword arguments."""

import json
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.requests.call import Call

USER = {"role": "user", "content": "hi"}


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> pb.GenerateRequest:
    """The GenerateRequest of a chat body with these fields."""
    (call,) = chat_job(parse_chat(**fields)).calls
    return _request(call, fields)


def parse_chat(**fields: Any) -> ChatRequest:
    """A chat body with these fields, parsed."""
    body = json.dumps({"model": "m", "messages": [USER]} | fields).encode()
    return parse_body(ChatRequest, body, ignore_unknown=False).request


def completion(**fields: Any) -> list[pb.GenerateRequest]:
    """The GenerateRequests of a completion body with these fields."""
    body = json.dumps({"model": "m", "prompt": "hi"} | fields).encode()
    job = completion_job(parse_body(CompletionRequest, body, ignore_unknown=False).request)
    return [_request(call, fields) for call in job.calls]


def _request(call: Call, fields: dict[str, Any]) -> pb.GenerateRequest:
    """The request that is sent to an endpoint, without the seed that the router added."""
    request = pb.GenerateRequest.FromString(call.body)
    if fields.get("seed") is None:
        request.ClearField("seed")
    return request
