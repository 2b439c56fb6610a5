"""/openapi.json describes every path of the API with the schemas that parse its bodies."""

import json
from typing import Any

from google.api import annotations_pb2

from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.openai.openapi import BODIES, openapi_document
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.responses.schema import RESPONSE_BODIES, ResponseRequest
from infermesh_router.texts.schema import TEXT_BODIES

DOCUMENT: dict[str, Any] = json.loads(openapi_document({**RESPONSE_BODIES, **TEXT_BODIES}))
METHODS = pb.DESCRIPTOR.services_by_name["OpenAIService"].methods


def _references(value: object) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(_references, value.values()))


def test_every_path_is_described() -> None:
    rules = [method.GetOptions().Extensions[annotations_pb2.http] for method in METHODS]
    bound = [one for rule in rules for one in (rule, *rule.additional_bindings)]
    expected = {getattr(one, one.WhichOneof("pattern") or "get").replace("=**", "") for one in bound}
    assert set(DOCUMENT["paths"]) == expected
    assert "/openapi.json" in expected


def test_every_call_with_a_body_has_its_schema() -> None:
    taking = {method.name for method in METHODS if method.input_type.full_name == "google.api.HttpBody"}
    assert taking == {*BODIES, *RESPONSE_BODIES, *TEXT_BODIES}


def test_schemas_have_the_fields_that_are_parsed() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for model in (ChatRequest, CompletionRequest, ResponseRequest):
        names = {field.alias or name for name, field in model.model_fields.items()}
        assert set(schemas[model.__name__]["properties"]) == names
        assert schemas[model.__name__]["additionalProperties"] is False


def test_every_reference_leads_somewhere() -> None:
    for reference in _references(DOCUMENT):
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_errors_are_described_for_every_call() -> None:
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert all({"200", "400", "429", "503"} <= operation["responses"].keys() for operation in operations)
