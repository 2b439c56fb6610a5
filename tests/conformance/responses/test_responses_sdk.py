"""/v1/responses with the unmodified `openai` package, through the real Envoy."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel, ConfigDict

from tests.e2e.mesh import MODEL, Mesh

ASKED = "Name a colour."
SHORT: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 12}


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with mesh.openai() as opened:
        yield opened


@pytest.fixture
async def async_client(mesh: Mesh) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{mesh.envoy.http}/v1", api_key="none", max_retries=0, timeout=60
    ) as opened:
        yield opened


def test_the_same_tokens_as_a_chat(client: openai.OpenAI) -> None:
    response = client.responses.create(input=ASKED, instructions="Answer in one word.", **SHORT)
    messages: Any = [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": ASKED}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=12)
    assert response.output_text == answer.choices[0].message.content
    assert response.usage is not None
    assert answer.usage is not None
    assert response.usage.output_tokens == answer.usage.completion_tokens
    assert response.usage.input_tokens == answer.usage.prompt_tokens


def test_a_stream_tells_what_the_whole_response_has(client: openai.OpenAI) -> None:
    whole = client.responses.create(input=ASKED, **SHORT)
    events = list(client.responses.create(input=ASKED, stream=True, **SHORT))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == whole.output_text
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == whole.output_text
    assert last.response.status == whole.status


@pytest.mark.cpu_only
async def test_the_helper_for_streams(async_client: openai.AsyncOpenAI) -> None:
    async with async_client.responses.stream(
        model=MODEL, input="Say hi.", temperature=0, max_output_tokens=64, extra_body={"stop": ["."]}
    ) as stream:
        texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert final.status == "completed"
    assert "".join(texts) == final.output_text


class Colour(BaseModel):
    """What the model is to say."""

    model_config = ConfigDict(extra="forbid")

    name: str
    dark: bool


def test_parse_with_a_schema(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model=MODEL, input=ASKED, temperature=0, max_output_tokens=80, text_format=Colour)
    assert isinstance(parsed.output_parsed, Colour)
    assert parsed.text is not None
    assert parsed.text.format is not None
    assert parsed.text.format.type == "json_schema"


@pytest.mark.cpu_only
def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    first = client.responses.create(input="My name is Alice.", **SHORT)
    second = client.responses.create(input="What is my name?", previous_response_id=first.id, **SHORT)
    items: Any = [
        {"role": "user", "content": "My name is Alice."},
        *[item.to_dict() for item in first.output],
        {"role": "user", "content": "What is my name?"},
    ]
    assert client.responses.create(input=items, store=False, **SHORT).output_text == second.output_text
    listed = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [getattr(item, "role", None) for item in listed] == ["user", "assistant", "user"]
    assert client.responses.retrieve(second.id).to_dict() == second.to_dict()


def test_retrieve_cancel_and_delete(client: openai.OpenAI, mesh: Mesh) -> None:
    response = client.responses.create(input=ASKED, metadata={"a": "b"}, **SHORT)
    assert client.responses.retrieve(response.id, include=[]).metadata == {"a": "b"}
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(response.id)
    with mesh.http() as http:
        path = f"/v1/responses/{response.id}"
        assert http.delete(path).json() == {"id": response.id, "object": "response", "deleted": True}
        assert http.get(path).status_code == 404
        assert http.put(path).headers["allow"] == "GET, HEAD, DELETE"
    for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=response.id):
            gone(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(input=ASKED, previous_response_id=response.id, **SHORT)


def test_log_probabilities(client: openai.OpenAI) -> None:
    response = client.responses.create(input=ASKED, include=["message.output_text.logprobs"], top_logprobs=2, **SHORT)
    content = response.output[0].to_dict()["content"]
    assert isinstance(content, list)
    logprobs = content[0]["logprobs"]
    assert "".join(token["token"] for token in logprobs).startswith(response.output_text)
    assert all(len(token["top_logprobs"]) == 2 for token in logprobs)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"conversation": "conv_1"}, "conversation"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].type",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "nonsense"}}}}, "text.format"),
    ],
)
def test_errors_name_the_field(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**({"input": ASKED, **SHORT} | fields))
    assert caught.value.param == param
    assert "messages" not in caught.value.message


def test_a_model_that_is_not_there(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody", input=ASKED)


def test_fields_without_effect_are_named(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        input=ASKED, reasoning={"summary": "auto"}, include=["reasoning.encrypted_content"], **SHORT
    )
    assert raw.headers["x-infermesh-ignored-fields"] == "reasoning.summary,include[]"


def test_a_client_that_leaves_is_let_go(client: openai.OpenAI) -> None:
    with client.responses.create(model=MODEL, input="Count to a thousand.", stream=True) as stream:
        created = next(iter(stream))
    assert created.type == "response.created"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.response.id)


@pytest.mark.cpu_only
def test_paths(mesh: Mesh) -> None:
    body = {"input": ASKED, **SHORT}
    with mesh.http() as http:
        for path in ("/v1/responses", "/responses", "/openai/v1/responses?api-version=preview"):
            answer = http.post(path, json=body)
            assert answer.status_code == httpx.codes.OK, answer.text
        assert "POST /v1/responses" in http.get("/v1/nothing").json()["error"]["message"]
        assert "GET /v1/responses/ID/input_items" in http.get("/v1/nothing").json()["error"]["message"]
