"""Describes the REST API as OpenAPI 3.1, from the contract's paths and the schemas that parse the bodies."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.tokens import DetokenizeBody, TokenizeChat, TokenizeText

Bodies = Mapping[str, tuple[type[BaseModel], ...]]

BODIES: Bodies = {
    "CreateChatCompletion": (ChatRequest,),
    "CreateCompletion": (CompletionRequest,),
    "Tokenize": (TokenizeText, TokenizeChat),
    "Detokenize": (DetokenizeBody,),
    "ApplyTemplate": (TokenizeChat,),
}
"""The schemas of the bodies that calls take; a body follows one of them. Other rooms add those of their calls."""

ERRORS: Mapping[int, str] = {
    400: "The request is malformed, or a field of it is refused; `param` names the field.",
    401: "The API key is missing or not accepted.",
    403: "The API key does not allow this, or the origin or host is not allowed.",
    404: "The model or path does not exist.",
    405: "The path does not take this method.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "The body is compressed in a way that is not known.",
    429: "Too many requests; Retry-After says when to try again.",
    431: "The headers are too large.",
    500: "Something failed in the mesh.",
    501: "No endpoint can do this.",
    503: "No endpoint can answer now; Retry-After says when to try again.",
    504: "The request's deadline passed.",
}
"""The statuses of errors, which Envoy makes of gRPC's codes, and what they mean."""

_ERROR: dict[str, Any] = {
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
_VARIABLE = re.compile(r"{(\w+)}")
_REF = "#/components/schemas/{model}"


def openapi_document(more: Bodies) -> bytes:
    """The description as JSON. `more`: the bodies of calls that another room answers. Takes tens of milliseconds."""
    bodies = {**BODIES, **more}
    models = dict.fromkeys(model for some in bodies.values() for model in some)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for method in pb.DESCRIPTOR.services_by_name["OpenAIService"].methods:
        for rule in _rules(method):
            verb = rule.WhichOneof("pattern") or "get"
            path = getattr(rule, verb).replace("=**}", "}")
            paths.setdefault(path, {})[verb] = _operation(method, path, bodies.get(method.name, ()))
    document = {
        "openapi": "3.1.0",
        "info": {"title": "infermesh", "version": version("infermesh-router")},
        "paths": paths,
        "components": {
            "schemas": {**definitions["$defs"], "Error": _ERROR},
            "responses": {str(status): _error_response(text) for status, text in ERRORS.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }
    return json.dumps(document).encode()  # orjson writes no integer above 64 bits, and seeds are below 2**64


def _rules(method: MethodDescriptor) -> Iterator[HttpRule]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    yield rule
    yield from rule.additional_bindings


def _operation(method: MethodDescriptor, path: str, bodies: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {}}
    if method.server_streaming:
        answer["text/event-stream"] = {}
    if method.name == "GetMetrics":
        answer = {"text/plain": {}}
    errors = {str(status): {"$ref": f"#/components/responses/{status}"} for status in ERRORS}
    operation: dict[str, Any] = {"responses": {"200": {"description": "The answer.", "content": answer}, **errors}}
    names = _VARIABLE.findall(path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if bodies:
        refs = [{"$ref": _REF.format(model=body.__name__)} for body in bodies]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _error_response(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}}
