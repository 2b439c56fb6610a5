"""/openapi.json describes every path of the API, in all its dialects, with the schemas that parse its bodies."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from infermesh_router.anthropic.schema import CountBody, MessagesBody
from infermesh_router.client_plane import DESCRIBED_APIS
from infermesh_router.description.api import DescribedApi
from infermesh_router.description.document import http_rules, openapi_document
from infermesh_router.ollama.schema import ChatBody, GenerateBody
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.responses.schema import ResponseRequest

DOCUMENT: dict[str, Any] = json.loads(openapi_document(DESCRIBED_APIS))
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]


def _references(value: object) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(_references, value.values()))


def _schema(name: str) -> dict[str, Any]:
    found = DOCUMENT["components"]["schemas"][name]
    assert isinstance(found, dict)
    return found


def test_every_path_is_described() -> None:
    expected = {rule for api in DESCRIBED_APIS for method in api.service.methods for rule in http_rules(method)}
    assert {(verb, path) for path, operations in PATHS.items() for verb in operations} == expected
    assert {"/openapi.json", "/v1/messages", "/v1/models/{model}", "/api/delete", "/"} <= PATHS.keys()


@pytest.mark.parametrize("api", DESCRIBED_APIS, ids=lambda api: api.service.name)
def test_every_call_with_a_body_has_its_schema(api: DescribedApi) -> None:
    taking = {
        method.name
        for method in api.service.methods
        if method.input_type.full_name == "google.api.HttpBody"
        or "content" in method.input_type.fields_by_name
        or "source" in method.input_type.fields_by_name
        or method.input_type.file.package == "infermesh.admin.v1"
    }
    assert taking == api.bodies.keys() | api.refused.keys() | api.sent.keys()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ChatRequest", ChatRequest),
        ("CompletionRequest", CompletionRequest),
        ("ResponseRequest", ResponseRequest),
        ("AnthropicMessagesBody", MessagesBody),
        ("AnthropicCountBody", CountBody),
        ("OllamaChatBody", ChatBody),
        ("OllamaGenerateBody", GenerateBody),
    ],
)
def test_schemas_have_the_fields_that_are_parsed(name: str, model: type[BaseModel]) -> None:
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert set(_schema(name)["properties"]) == names
    assert _schema(name)["additionalProperties"] is False


def test_values_that_are_converted_are_described_as_they_are_sent() -> None:
    keep_alive = json.dumps(_schema("OllamaChatBody")["properties"]["keep_alive"])
    assert '"number"' in keep_alive
    assert '"string"' in keep_alive


def test_every_reference_leads_somewhere() -> None:
    for reference in _references(DOCUMENT):
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_errors_are_described_for_every_call() -> None:
    operations = [operation for path in PATHS.values() for operation in path.values()]
    assert all({"400", "401", "429", "500"} <= operation["responses"].keys() for operation in operations)


def test_each_dialect_has_its_shape_of_errors() -> None:
    shapes = {path: _references(PATHS[path]["post"]["responses"]["404"]) for path in ("/v1/messages", "/api/chat")}
    assert shapes == {
        "/v1/messages": {"#/components/responses/Anthropic404"},
        "/api/chat": {"#/components/responses/Ollama404"},
    }
    responses = DOCUMENT["components"]["responses"]
    assert _references(responses["Anthropic404"]) == {"#/components/schemas/AnthropicError"}
    assert _references(responses["Ollama404"]) == {"#/components/schemas/OllamaError"}
    assert "529" in PATHS["/v1/messages"]["post"]["responses"]
    assert "503" not in PATHS["/v1/messages"]["post"]["responses"]


def test_lists_of_models_have_two_shapes_of_errors() -> None:
    listing = PATHS["/v1/models"]["get"]
    assert [parameter["name"] for parameter in listing["parameters"]] == ["anthropic-version"]
    assert _references(listing["responses"]["401"]) == {
        "#/components/schemas/Error",
        "#/components/schemas/AnthropicError",
    }
    assert {"503", "529"} <= listing["responses"].keys()


@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("/v1/chat/completions", {"application/json", "text/event-stream"}),
        ("/v1/messages", {"application/json", "text/event-stream"}),
        ("/v1/messages/count_tokens", {"application/json"}),
        ("/api/chat", {"application/json", "application/x-ndjson"}),
        ("/api/show", {"application/json"}),
    ],
)
def test_content_types_of_answers(path: str, types: set[str]) -> None:
    assert PATHS[path]["post"]["responses"]["200"]["content"].keys() == types


def test_all_calls_but_those_that_are_refused_have_an_answer() -> None:
    expected = {
        path: {verb: method.name not in api.refused}
        for api in DESCRIBED_APIS
        for method in api.service.methods
        for verb, path in http_rules(method)
    }
    for path, verbs in expected.items():
        assert {verb: "200" in PATHS[path][verb]["responses"] for verb in verbs} == verbs


def test_files_are_sent_as_forms() -> None:
    content = PATHS["/v1/files"]["post"]["requestBody"]["content"]
    assert content["multipart/form-data"]["schema"]["required"] == ["file", "purpose"]


def test_calls_that_are_always_refused_say_what_to_use_instead() -> None:
    responses = PATHS["/api/create"]["post"]["responses"]
    assert "200" not in responses
    assert "infermesh models import" in responses["501"]["description"]


def test_what_the_mesh_tells_is_described() -> None:
    answer = PATHS["/mesh/v1/requests/{request_id}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer == {"schema": {"$ref": "#/components/schemas/MeshReceipt"}}
    receipt = _schema("MeshReceipt")["properties"]
    assert receipt["seed"]["type"] == "string"  # as JSON has integers of 64 bits
    assert receipt["arrived_at"] == {"type": "string", "format": "date-time"}
    assert receipt["runners_up"] == {"type": "array", "items": {"$ref": "#/components/schemas/MeshCandidate"}}
    assert _schema("MeshEndpoint")["properties"]["choices"]["additionalProperties"] == {"type": "number"}
    assert "load_fraction" not in _schema("MeshModel")["required"]
    events = PATHS["/mesh/v1/events"]["get"]
    assert [each["name"] for each in events["parameters"]] == ["Last-Event-ID"]
    assert "MeshFailoverEvent" in events["responses"]["200"]["content"]["text/event-stream"]["schema"]["description"]
    for name in ("MeshSnapshot", "MeshFailoverEvent", "MeshLostEvent"):
        assert _schema(name)["properties"]


def test_what_the_mesh_is_asked_with_is_described() -> None:
    (limit,) = PATHS["/mesh/v1/requests"]["get"]["parameters"]
    assert (limit["in"], limit["schema"]["maximum"]) == ("query", 200)
    assert PATHS["/mesh/v1/endpoints/{address}:resume"]["post"]["requestBody"]["required"] is False
    assert PATHS["/mesh/v1/imports"]["post"]["requestBody"]["required"] is True
    removing = PATHS["/mesh/v1/models/{model}"]["delete"]["parameters"]
    assert [(each["name"], each["in"]) for each in removing] == [("model", "path"), ("endpoint", "query")]
