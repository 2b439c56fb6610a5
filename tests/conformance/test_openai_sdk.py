"""The unmodified openai package works with the real model through Envoy."""

import asyncio
import json
import re
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionUserMessageParam

from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(120)

MODEL = "smollm2-135m-instruct"
QUESTION: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Name three colours of the rainbow."}]


def content_of(answer: ChatCompletion, choice: int = 0) -> str:
    content = answer.choices[choice].message.content
    assert content is not None
    return content


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == (MODEL, "model")
    assert client.models.retrieve(MODEL).id == MODEL


def test_unknown_model_is_not_retrieved(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/nothing")
    assert caught.value.code == "model_not_found"


@pytest.mark.cpu_only
def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, temperature=0)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert content_of(answer).strip()
    assert choice.finish_reason in {"stop", "length"}
    usage = answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 12


def test_chat_stream_equals_the_whole_answer(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 10
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])


def test_headers_name_the_endpoint_the_reason_and_the_overhead(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=2)
    headers = raw.headers
    assert headers["x-infermesh-device"] == "cpu"
    assert headers["x-infermesh-reason"] == "only_endpoint"
    assert headers["x-infermesh-endpoint"].count(":") == 1
    assert int(headers["x-infermesh-queued-ms"]) >= 0
    assert 0 < float(headers["x-infermesh-overhead-ms"]) < 1000
    usage = raw.parse().usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens is not None


def test_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=12, temperature=0)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    streamed = client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=12, temperature=0, stream=True
    )
    assert "".join(c.choices[0].text for c in streamed) == answer.choices[0].text


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8, n=3, seed=7, temperature=1.2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    chunks = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=8, n=3, seed=7, temperature=1.2, stream=True
    )
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


@pytest.mark.cpu_only
def test_seed_repeats(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=12, temperature=1.5, top_p=0.95, seed=seed
        )
        return content_of(answer)

    first = ask(11)
    assert ask(11) == first
    assert ask(12) != first


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=8, temperature=0, logprobs=True, top_logprobs=20
    )
    assert answer.choices[0].logprobs is not None
    assert answer.usage is not None
    tokens = answer.choices[0].logprobs.content
    assert tokens is not None
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        ranked = [top.logprob for top in token.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        assert len(ranked) == 20
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.logprob == pytest.approx(ranked[0], abs=1e-4)
    text = b"".join(bytes(token.bytes or []) for token in tokens).decode()
    assert text.startswith(content_of(answer))


@pytest.mark.cpu_only
def test_completion_logprobs(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4, temperature=0, logprobs=3)
    found = answer.choices[0].logprobs
    assert found is not None
    tokens, logprobs, tops = found.tokens or [], found.token_logprobs or [], found.top_logprobs or []
    assert len(tokens) == len(logprobs) == len(tops) == 4
    assert "".join(tokens) == answer.choices[0].text


def test_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["cat", "dog"]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe a pet as JSON."}],
        max_tokens=200,
        temperature=0.8,
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "pet", "schema": schema, "strict": True}},
    )
    assert answer.choices[0].finish_reason == "stop"
    pet = json.loads(content_of(answer))
    assert pet.keys() == {"name", "age", "kind"}
    assert isinstance(pet["name"], str)
    assert len(pet["name"]) <= 20
    assert type(pet["age"]) is int
    assert 0 <= pet["age"] <= 150
    assert pet["kind"] in {"cat", "dog"}


@pytest.mark.cpu_only
def test_stop_string_is_not_emitted(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    text = client.chat.completions.create(**asked).choices[0].message.content
    stop = text[12:17]  # may begin and end inside a token
    answer = client.chat.completions.create(**asked, stop=[stop, "never to be seen"])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_max_tokens_and_length(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=3, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage is not None
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


@pytest.mark.cpu_only
def test_unicode_survives(client: openai.OpenAI) -> None:
    text = "Répète: 日本語 🙂 «ça»"
    answer = client.completions.create(model=MODEL, prompt=text, max_tokens=24, temperature=0.7, seed=3)
    answer.choices[0].text.encode()
    streamed = client.completions.create(model=MODEL, prompt=text, max_tokens=24, temperature=0.7, seed=3, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == answer.choices[0].text


def test_response_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=2, extra_headers={"x-request-id": "e2e-1"}
    )
    assert raw.headers["x-request-id"] == "e2e-1"
    assert raw.headers["x-infermesh-device"] == "cpu"
    assert raw.headers["x-infermesh-endpoint"].startswith("127.0.0.1:")


@pytest.mark.parametrize("sent", [b"one-of-mine, plain", "caf\xe9 \u65e5".encode()])
def test_every_log_has_the_request_id_of_the_client(mesh: Mesh, http: httpx.Client, sent: bytes) -> None:
    """HTTP headers may contain bytes that gRPC metadata may not; behind Envoy they are question marks."""
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 1}
    response = http.post("/v1/completions", json=body, headers={b"x-request-id": sent})
    assert response.status_code == 200
    assert response.headers.raw.count((b"x-request-id", sent)) == 1
    logged = re.sub(r"[^ -~]", "?", sent.decode())
    for program in (mesh.router, *mesh.workers):
        lines = [json.loads(line) for line in program.log.read_text().splitlines()]
        found = [line for line in lines if line.get("request_id") == logged and line["message"] == "rpc"]
        assert [line["code"] for line in found] == ["OK"], program.module


async def test_async_client_and_many_at_once(mesh: Mesh) -> None:
    async with openai.AsyncOpenAI(base_url=f"{mesh.envoy.http}/v1", api_key="none", max_retries=0) as client:

        async def ask(i: int) -> str:
            answer = await client.completions.create(model=MODEL, prompt=f"Number {i}:", max_tokens=12, temperature=0)
            return answer.choices[0].text

        together = await asyncio.gather(*(ask(i % 4) for i in range(12)))
    assert together[:4] == together[4:8] == together[8:]
