"""The unmodified anthropic package against the mesh, through the real Envoy."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, TextBlock

from tests.e2e.mesh import MODEL, Mesh

pytestmark = pytest.mark.timeout(120)

QUESTION: list[MessageParam] = [{"role": "user", "content": "Say hello to Ada."}]
GREEDY: dict[str, Any] = {"model": MODEL, "max_tokens": 12, "temperature": 0}
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 12, "extra_body": {"temperature": 0}}
"""The same for the package, whose newest versions have no parameter for the temperature."""


@pytest.fixture
def client(mesh: Mesh) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=mesh.envoy.http, api_key="any", max_retries=0, timeout=60) as opened:
        yield opened


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as opened:
        yield opened


def text_of(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert isinstance(block, TextBlock)
    return block.text


def chat_text(http: httpx.Client, **fields: Any) -> str:
    """The same request's answer in OpenAI's dialect."""
    body = {"messages": QUESTION, **GREEDY, **fields}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def test_a_message_has_the_tokens_of_a_chat(client: anthropic.Anthropic, http: httpx.Client) -> None:
    message = client.messages.create(messages=QUESTION, system="Be brief.", metadata={"user_id": "ada"}, **ASKED)
    system = {"role": "system", "content": "Be brief."}
    assert text_of(message) == chat_text(http, messages=[system, *QUESTION])
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", MODEL)
    assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
    assert message.usage.output_tokens == 12
    assert message._request_id


@pytest.mark.cpu_only
def test_blocks_of_text_are_parts(client: anthropic.Anthropic, http: httpx.Client) -> None:
    parts: list[Any] = [{"type": "text", "text": text} for text in ("Say hello", "to Ada.")]
    cached = [part | {"cache_control": {"type": "ephemeral"}} for part in parts]
    message = client.messages.create(messages=[{"role": "user", "content": cached}], system=cached, **ASKED)
    chat = [{"role": role, "content": parts} for role in ("system", "user")]
    assert text_of(message) == chat_text(http, messages=chat)


@pytest.mark.cpu_only
def test_turns_of_one_role_are_joined(client: anthropic.Anthropic, http: httpx.Client) -> None:
    split: list[MessageParam] = [{"role": "user", "content": text} for text in ("Say hello", "to Ada.")]
    parts = [{"type": "text", "text": text} for text in ("Say hello", "to Ada.")]
    message = client.messages.create(messages=split, **ASKED)
    assert text_of(message) == chat_text(http, messages=[{"role": "user", "content": parts}])


@pytest.mark.cpu_only
def test_a_begun_answer_is_continued(client: anthropic.Anthropic) -> None:
    begun: list[MessageParam] = [*QUESTION, {"role": "assistant", "content": "Hello"}]
    whole = client.messages.create(messages=begun, **ASKED)
    empty = client.messages.create(messages=[*QUESTION, {"role": "assistant", "content": ""}], **ASKED)
    assert not text_of(whole).startswith("Hello")
    assert text_of(empty) == text_of(client.messages.create(messages=QUESTION, **ASKED))


def test_the_events_of_a_stream(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(messages=QUESTION, **ASKED)
    with client.messages.stream(messages=QUESTION, **ASKED) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert kinds[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert message.content[0].type == "text"
    assert message.content[0].text == text_of(whole)
    assert message.stop_reason == whole.stop_reason
    cached = message.usage.cache_read_input_tokens or 0
    assert message.usage.input_tokens + cached == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert message.usage.output_tokens == 12


def test_a_stream_of_text(client: anthropic.Anthropic) -> None:
    with client.messages.stream(messages=QUESTION, **ASKED) as stream:
        pieces = list(stream.text_stream)
        assert "".join(pieces) == stream.get_final_text()
    assert len(pieces) > 3


def test_raw_events_are_named(http: httpx.Client) -> None:
    body = {"messages": QUESTION, "stream": True, **GREEDY}
    answer = http.post("/v1/messages?beta=true", json=body, headers={"anthropic-beta": "some-beta-2025-01-01"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-1] == "message_stop"


def test_a_stop_sequence_is_told(client: anthropic.Anthropic) -> None:
    whole = text_of(client.messages.create(messages=QUESTION, **ASKED))
    stop = whole.split()[2]
    message = client.messages.create(messages=QUESTION, stop_sequences=["never", stop], **ASKED)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert text_of(message) == whole.partition(stop)[0]


def test_json_that_follows_a_schema(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    message = client.messages.create(messages=QUESTION, output_config=config, **ASKED)
    assert text_of(message).replace(" ", "").replace("\n", "") == '{"a":1}'


def test_counted_tokens_are_those_of_the_prompt(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION, system="Be brief.")
    usage = client.messages.create(messages=QUESTION, system="Be brief.", **ASKED).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.cpu_only
def test_the_beta_client(client: anthropic.Anthropic) -> None:
    betas = ["interleaved-thinking-2025-05-14"]
    message = client.beta.messages.create(messages=[{"role": "user", "content": "Hi"}], betas=betas, **ASKED)
    assert message.content[0].type == "text"
    counted = client.beta.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hi"}], betas=betas)
    assert counted.input_tokens > 0


def test_models_in_anthropics_shape(client: anthropic.Anthropic, http: httpx.Client) -> None:
    models = list(client.models.list(limit=5))
    assert [model.id for model in models] == [MODEL]
    found = client.models.retrieve(MODEL)
    assert (found.id, found.type) == (MODEL, "model")
    assert found.max_input_tokens
    assert found.created_at.year >= 2024
    assert http.get("/v1/models").json()["object"] == "list"


async def test_the_asynchronous_client(mesh: Mesh) -> None:
    async with anthropic.AsyncAnthropic(base_url=mesh.envoy.http, api_key="any", max_retries=0) as client:
        message = await client.messages.create(messages=QUESTION, **ASKED)
        async with client.messages.stream(messages=QUESTION, **ASKED) as stream:
            assert "".join([text async for text in stream.text_stream]) == text_of(message)
        assert (await client.messages.count_tokens(model=MODEL, messages=QUESTION)).input_tokens > 0


def test_errors_are_anthropics(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(messages=QUESTION, **(ASKED | {"model": "none"}))
    body: Any = unknown.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert body["request_id"] == unknown.value.request_id
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content\[0\].source' must be an image"):
        client.messages.create(messages=[{"role": "user", "content": [image]}], **ASKED)
    tool: Any = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError, match="'web_search_20250305' is a tool of Anthropic's own"):
        client.messages.create(messages=QUESTION, tools=[tool], **ASKED)
    with pytest.raises(anthropic.BadRequestError, match="'temperature' must be"):
        client.messages.create(messages=QUESTION, **(ASKED | {"extra_body": {"temperature": 3}}))


def test_a_stream_that_cannot_begin_is_a_status(client: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: 9\d+ tokens > 8192 maximum"),
        client.messages.stream(messages=[{"role": "user", "content": "long " * 9000}], **ASKED) as stream,
    ):
        stream.until_done()


def test_a_stream_that_runs_out_of_time_raises_the_packages_error(client: anthropic.Anthropic) -> None:
    story: list[MessageParam] = [{"role": "user", "content": "Write a very long story about the sea."}]
    options: dict[str, Any] = {"model": MODEL, "max_tokens": 8000, "extra_body": {"temperature": 0, "deadline_ms": 900}}
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(messages=story, **options) as stream,
    ):
        stream.until_done()
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "timeout_error")
    assert body["request_id"]


def test_the_root_answers(http: httpx.Client) -> None:
    assert http.head("/").status_code == 200
    assert http.get("/").status_code == 200
