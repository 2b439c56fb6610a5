"""The compliance suite of openresponses.org, as data: its seven cases, and what it checks of their answers.

The cases ask for what the suite asks for. The model is too small to call a tool by itself, so those cases force a call;
and it takes text only, so the case with an image must be refused by name.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.conformance.tool_model import TOOL_MODEL
from tests.e2e.mesh import Mesh

SUITE = json.loads((Path(__file__).parent / "openresponses.json").read_text(encoding="utf-8"))
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture
def http(tool_mesh: Mesh) -> Iterator[httpx.Client]:
    with tool_mesh.http() as client:
        yield client


def body_of(case: dict[str, Any], model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "temperature": 0, **case["request"]}
    if "tools" not in body:
        body["stop"] = [".", "!", "\n"]  # keeps answers short, and complete
    else:
        body["tools"] = [SUITE["tools"][name] for name in body["tools"]]
        body |= {"tool_choice": "required", "parallel_tool_calls": False}
    return body


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, each as OpenAI's types accept it."""
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    for event in events:
        EVENT.validate_python(event)
    return events


@pytest.mark.parametrize("case", SUITE["cases"], ids=lambda case: case["id"])
def test_case(http: httpx.Client, case: dict[str, Any]) -> None:
    answer = http.post("/v1/responses", json=body_of(case, TOOL_MODEL))
    if "refused" in case:
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert answer.json()["error"]["param"] == case["refused"]
        return
    assert answer.status_code == httpx.codes.OK, answer.text
    if case["request"].get("stream"):
        events = events_of(answer)
        response = events[-1]["response"]
        assert {*case.get("events", ())} <= {event["type"] for event in events}
    else:
        response = answer.json()
    assert {*SUITE["required"]} <= response.keys()
    Response.model_validate(response)
    assert response["status"] == "completed"
    kinds = {item["type"] for item in response["output"]}
    assert kinds
    assert {*case["output"]} <= kinds
    for item in response["output"]:
        if item["type"] == "function_call":
            assert isinstance(json.loads(item["arguments"])["location"], str)
