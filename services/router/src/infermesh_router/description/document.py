"""Makes the OpenAPI document from the contract's paths and the schemas that parse the bodies."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor
from pydantic.json_schema import models_json_schema

from infermesh_router.description.api import EVENTS, JSON, SCHEMAS, DescribedApi
from infermesh_router.description.messages import message_schemas, schema_name

_VARIABLE = re.compile(r"{(\w+)}")
_KEYS = {
    "key": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}
"""How clients show an API key, in the words of OpenAI, Anthropic and Azure. A mesh without keys needs none."""


def openapi_document(apis: Sequence[DescribedApi]) -> bytes:
    """The description as JSON. Takes tens of milliseconds."""
    schemas: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for api in apis:
        defined, bodies = _schemas(api)
        schemas |= defined | {f"{api.prefix}Error": api.error}
        for message in {each.full_name: each for told in api.told.values() for each in told}.values():
            schemas |= message_schemas(message)
        responses |= {f"{api.prefix}{status}": _error(text, [api]) for status, text in api.errors.items()}
        for method in api.service.methods:
            operation = _operation(api, method, bodies.get(method.name, [])) | {
                "responses": _answers(api, method) | _errors(method, apis, api)
            }
            for verb, path in http_rules(method):
                paths.setdefault(path, {})[verb] = _with_parameters(operation, path, _parameters(api, method, apis))
    document = {
        "openapi": "3.1.0",
        "info": {"title": "infermesh", "version": version("infermesh-router")},
        "paths": paths,
        "components": {"schemas": schemas, "responses": responses, "securitySchemes": _KEYS},
        "security": [{}, *({name: []} for name in _KEYS)],
    }
    return json.dumps(document).encode()  # orjson writes no integer above 64 bits, and seeds are below 2**64


def http_rules(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    """The HTTP methods, in small letters, and paths of a call."""
    rule: HttpRule = method.GetOptions().Extensions[annotations_pb2.http]
    for bound in (rule, *rule.additional_bindings):
        verb = bound.WhichOneof("pattern")
        if verb is not None:
            yield verb, getattr(bound, verb).replace("=**}", "}")


def _schemas(api: DescribedApi) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """All schemas of a dialect, and references to those of each call's body."""
    models = dict.fromkeys(model for some in api.bodies.values() for model in some)
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=f"{SCHEMAS}{api.prefix}{{model}}"
    )
    defined = {api.prefix + name: schema for name, schema in definitions.get("$defs", {}).items()}
    return defined, {call: [references[model, "validation"] for model in some] for call, some in api.bodies.items()}


def _operation(api: DescribedApi, method: MethodDescriptor, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """A call without its answers and parameters."""
    tags = {"tags": [api.service.name]}
    if bodies:
        schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
        return {**tags, "requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}
    if method.name in api.refused or method.name in api.sent:
        content = api.sent.get(method.name, {JSON: {}})
        return {
            **tags,
            "requestBody": {"required": method.name not in {*api.refused, *api.may_be_empty}, "content": content},
        }
    return tags


def _answers(api: DescribedApi, method: MethodDescriptor) -> dict[str, Any]:
    if method.name in api.refused:
        return {}
    types = api.answers.get(method.name) or ((JSON, api.stream_type) if method.server_streaming else (JSON,))
    content = {each: _schema_of_answer(api, method, each) for each in types}
    return {"200": {"description": "The answer.", "content": content}}


def _schema_of_answer(api: DescribedApi, method: MethodDescriptor, content_type: str) -> dict[str, Any]:
    told = api.told.get(method.name, ())
    if content_type == EVENTS and told:
        names = ", ".join(schema_name(each) for each in told)
        return {
            "schema": {"type": "string", "description": f"Server-sent events. The data of each is one of: {names}."}
        }
    return {"schema": {"$ref": f"{SCHEMAS}{schema_name(told[0])}"}} if told else {}


def _errors(method: MethodDescriptor, apis: Sequence[DescribedApi], own: DescribedApi) -> dict[str, Any]:
    """The errors of a call by their status. Calls that two dialects share have those of both."""
    found = {str(status): {"$ref": f"#/components/responses/{own.prefix}{status}"} for status in own.errors}
    for other in _sharing(method, apis):
        for status, text in other.errors.items():
            found[str(status)] = _error(text, [own, other] if status in own.errors else [other])
    if method.name in own.refused:
        found["501"] = _error(own.refused[method.name], [own])
    return found


def _error(text: str, apis: Sequence[DescribedApi]) -> dict[str, Any]:
    shapes = [{"$ref": f"{SCHEMAS}{api.prefix}Error"} for api in apis]
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _sharing(method: MethodDescriptor, apis: Sequence[DescribedApi]) -> list[DescribedApi]:
    return [api for api in apis if method.full_name in api.shared]


def _parameters(own: DescribedApi, method: MethodDescriptor, apis: Sequence[DescribedApi]) -> list[Mapping[str, Any]]:
    """What a call takes in its query and headers; the headers with which it answers in another dialect, too."""
    return [
        *own.parameters.get(method.name, ()),
        *_headers(method, apis),
    ]


def _headers(method: MethodDescriptor, apis: Sequence[DescribedApi]) -> list[dict[str, Any]]:
    """The headers with which a call answers in another dialect."""
    return [
        {"name": api.header, "in": "header", "required": False, "schema": {"type": "string"}}
        for api in _sharing(method, apis)
    ]


def _with_parameters(operation: dict[str, Any], path: str, others: list[Mapping[str, Any]]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    named = [{"name": name, "in": "path", "required": True, "schema": text} for name in _VARIABLE.findall(path)]
    parameters = [*named, *others]
    return operation | {"parameters": parameters} if parameters else operation
