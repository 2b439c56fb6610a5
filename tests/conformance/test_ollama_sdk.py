"""The unmodified ollama package, sync and async, works with the real model through Envoy."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import ollama
import openai
import pytest

from tests.e2e.mesh import MODEL, Mesh

pytestmark = pytest.mark.timeout(120)

QUESTION = "Name three colours of the rainbow."
MESSAGES: list[Mapping[str, Any]] = [{"role": "user", "content": QUESTION}]
EXACT = {"temperature": 0, "num_predict": 8}
NAME = f"{MODEL}:latest"


@pytest.fixture
def client(mesh: Mesh) -> Iterator[ollama.Client]:
    with ollama.Client(mesh.envoy.http, timeout=60) as opened:
        yield opened


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as opened:
        yield opened


@pytest.fixture(scope="module")
def openai_text(mesh: Mesh) -> str:
    """What /v1/chat/completions answers."""
    with mesh.openai() as openai_client:
        return chat_text(openai_client)


def chat_text(client: openai.OpenAI, **more: Any) -> str:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=8, temperature=0, **more
    )
    return answer.choices[0].message.content or ""


def check_figures(part: ollama.ChatResponse | ollama.GenerateResponse) -> None:
    assert (part.done, part.done_reason) == (True, "length")
    assert part.eval_count == 8
    assert (part.prompt_eval_count or 0) > 8
    durations = (part.prompt_eval_duration, part.eval_duration, part.total_duration)
    assert all(duration and duration > 1000 for duration in durations)  # nanoseconds
    assert sum(durations[:2]) <= (part.total_duration or 0) * 1.05  # type: ignore[arg-type] # none is None
    assert part.load_duration == 0


def test_a_chat_has_the_tokens_of_chat_completions(client: ollama.Client, openai_text: str) -> None:
    answer = client.chat(NAME, MESSAGES, options=EXACT)
    assert (answer.message.role, answer.message.content) == ("assistant", openai_text)
    assert answer.model == NAME
    assert datetime.fromisoformat(answer.created_at or "").tzinfo == UTC
    check_figures(answer)


def test_a_streamed_chat_has_them_too(client: ollama.Client, openai_text: str) -> None:
    *parts, last = client.chat(MODEL, MESSAGES, options=EXACT, stream=True)
    assert "".join(part.message.content or "" for part in parts) == openai_text
    assert len(parts) >= 4
    assert not any(part.done for part in parts)
    check_figures(last)


def test_a_prompt_has_them_too(client: ollama.Client, openai_text: str) -> None:
    answer = client.generate(MODEL, QUESTION, options=EXACT)
    assert answer.response == openai_text
    check_figures(answer)
    *parts, last = client.generate(MODEL, QUESTION, options=EXACT, stream=True)
    assert "".join(part.response or "" for part in parts) == openai_text
    check_figures(last)


@pytest.mark.cpu_only
def test_the_async_client(mesh: Mesh, openai_text: str) -> None:
    async def ask() -> tuple[str, str]:
        async with ollama.AsyncClient(mesh.envoy.http, timeout=60) as client:
            whole = await client.chat(MODEL, MESSAGES, options=EXACT)
            parts = [part async for part in await client.generate(MODEL, QUESTION, options=EXACT, stream=True)]
        return whole.message.content or "", "".join(part.response or "" for part in parts)

    assert asyncio.run(ask()) == (openai_text, openai_text)


def test_streams_are_lines_of_json(http: httpx.Client, openai_text: str) -> None:
    response = http.post("/api/chat", json={"model": MODEL, "messages": MESSAGES, "options": EXACT})
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == openai_text
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


def test_a_system_prompt(client: ollama.Client) -> None:
    system = "Answer in French."
    generated = client.generate(MODEL, QUESTION, system=system, options=EXACT)
    messages = [{"role": "system", "content": system}, *MESSAGES]
    assert generated.response == client.chat(MODEL, messages, options=EXACT).message.content


def test_a_prompt_goes_on_from_its_context(client: ollama.Client) -> None:
    first = client.generate(MODEL, QUESTION, options=EXACT)
    *_, streamed = client.generate(MODEL, QUESTION, options=EXACT, stream=True)
    assert streamed.context == first.context
    more = "And two more?"
    said = [*MESSAGES, {"role": "assistant", "content": first.response}, {"role": "user", "content": more}]
    again = client.generate(MODEL, more, context=first.context, options=EXACT)
    assert again.response == client.chat(MODEL, said, options=EXACT).message.content
    with pytest.raises(ollama.ResponseError, match="'context' was not made by this server") as caught:
        client.generate(MODEL, more, context=[1, 2, 3])
    assert caught.value.status_code == 400


@pytest.mark.cpu_only
def test_a_raw_prompt_is_continued(mesh: Mesh, client: ollama.Client) -> None:
    with mesh.openai() as openai_client:
        expected = openai_client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=8, temperature=0)
    assert client.generate(MODEL, QUESTION, raw=True, options=EXACT).response == expected.choices[0].text


def test_formats(client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"age": {"enum": [1, 2]}}, "required": ["age"]}
    answer = client.chat(MODEL, MESSAGES, format=schema, options={"temperature": 0})
    assert json.loads(answer.message.content or "")["age"] in (1, 2)
    answer = client.chat(MODEL, MESSAGES, format="json", options=EXACT)
    assert (answer.message.content or "").startswith("{")


def test_options_sample(client: ollama.Client) -> None:
    sampled = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "num_predict": 6, "seed": 7, "repeat_penalty": 1.1}
    first, again = (client.generate(MODEL, QUESTION, options=sampled).response for _ in range(2))
    assert first == again
    assert first != client.generate(MODEL, QUESTION, options={**sampled, "seed": 8}).response
    whole = client.generate(MODEL, "Count: 1, 2, 3,", raw=True, options=EXACT).response or ""
    stopped = client.generate(MODEL, "Count: 1, 2, 3,", raw=True, options={**EXACT, "stop": [whole[4:6]]})
    assert (stopped.response, stopped.done_reason) == (whole.split(whole[4:6])[0], "stop")


def test_logprobs(client: ollama.Client) -> None:
    asked: dict[str, Any] = {"options": {**EXACT, "num_predict": 4}, "logprobs": True, "top_logprobs": 2}
    whole = client.chat(MODEL, MESSAGES, **asked)
    assert "".join(token.token for token in whole.logprobs or ()) == whole.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs or ()) == 2 for token in whole.logprobs or ())
    parts = list(client.chat(MODEL, MESSAGES, stream=True, **asked))
    streamed = [token for part in parts for token in part.logprobs or ()]
    assert [token.token for token in streamed] == [token.token for token in whole.logprobs or ()]


def test_lists_of_models(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert listed.model == NAME
    assert (listed.size or 0) > 1000
    assert len(listed.digest or "") == 64
    assert listed.modified_at is not None
    (running,) = client.ps().models
    assert (running.model, running.name, running.digest) == (NAME, NAME, listed.digest)
    assert (running.context_length or 0) >= 2048
    assert running.size_vram == 0
    assert running.expires_at is not None
    assert running.expires_at > datetime.now(UTC)


def test_a_model_is_shown(client: ollama.Client) -> None:
    shown = client.show(NAME)
    info = shown.modelinfo or {}
    assert info[f"{info['general.architecture']}.context_length"] >= 2048
    assert "completion" in (shown.capabilities or ())
    assert f"FROM {MODEL}" in (shown.modelfile or "")


def test_the_version_is_one_of_ollamas(http: httpx.Client) -> None:
    assert tuple(map(int, http.get("/api/version").json()["version"].split("."))) >= (0, 6, 4)  # Copilot's least


def test_fields_without_effect_are_named(http: httpx.Client) -> None:
    options = {**EXACT, "num_predict": 1, "num_ctx": 512, "mirostat": 0}
    response = http.post("/api/generate", json={"model": MODEL, "prompt": QUESTION, "options": options, "other": 1})
    assert response.headers["x-infermesh-ignored-fields"] == "other,options.num_ctx"


def test_a_model_is_loaded_without_a_prompt(client: ollama.Client) -> None:
    generated = client.generate(MODEL, keep_alive="5m")
    assert (generated.response, generated.done, generated.done_reason) == ("", True, "load")
    (part,) = client.chat(MODEL, stream=True)
    assert (part.message.content, part.done_reason) == ("", "load")


def test_the_mesh_keeps_a_pinned_model(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="is pinned") as caught:
        client.generate(MODEL, keep_alive=0)
    assert caught.value.status_code == 400
    assert client.ps().models


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda c: c.chat("nobody", MESSAGES), 404, "'nobody' does not exist"),
        (lambda c: list(c.chat("nobody", MESSAGES, stream=True)), 404, "'nobody' does not exist"),
        (lambda c: c.generate("nobody"), 404, "'nobody' does not exist"),
        (lambda c: c.generate("nobody", keep_alive=0), 404, "'nobody' does not exist"),
        (lambda c: c.show("nobody"), 404, "'nobody' does not exist"),
        (lambda c: c.generate(MODEL, QUESTION, options={"temperature": 3}), 400, "'options.temperature'"),
        (lambda c: c.generate(MODEL, QUESTION, template="{{ .Prompt }}"), 400, "'template'"),
        (lambda c: c.generate(MODEL, QUESTION, images=["aGk="]), 400, "'images[0]' must be an image"),
        (lambda c: c.chat(MODEL, [{"role": "tell", "content": "x"}]), 400, "messages[0].role"),
        (lambda c: c.generate(MODEL, QUESTION, format={"type": "nothing"}), 400, "json schema"),
        (lambda c: c.generate(MODEL, QUESTION, suffix="x"), 400, "suffix"),
        (lambda c: c.chat(MODEL, [{"role": "user", "content": "a " * 9000}]), 400, "context"),
        (lambda c: c.embed(MODEL, "x"), 400, "turns texts into vectors"),
        (lambda c: c.embeddings(MODEL, "x"), 400, "turns texts into vectors"),
        (lambda c: c.pull("nobody"), 501, "infermesh models import"),
        (lambda c: list(c.pull("nobody", stream=True)), 501, "infermesh models import"),
        (lambda c: c.push(MODEL), 501, "does not publish"),
        (lambda c: c.create("new", from_=MODEL), 501, "infermesh models import"),
        (lambda c: c.copy(MODEL, "new"), 501, "mesh.yaml"),
        (lambda c: c.delete(MODEL), 501, "infermesh models remove"),
    ],
)
def test_errors(client: ollama.Client, call: Any, status: int, message: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        call(client)
    assert isinstance(caught.value.error, str)
    assert message in caught.value.error
    assert caught.value.status_code == status


def test_a_model_that_is_there_is_pulled(client: ollama.Client) -> None:
    assert client.pull(MODEL).status == "success"
    assert [part.status for part in client.pull(NAME, stream=True)][-1] == "success"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/chat", 405), ("POST", "/api/nothing", 404), ("POST", "/api/blobs/sha256:00", 501)],
)
def test_errors_of_paths_have_ollamas_shape(http: httpx.Client, method: str, path: str, status: int) -> None:
    response = http.request(method, path, content=b"not json")
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"], str)
