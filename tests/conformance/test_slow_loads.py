"""Unmodified clients wait for a model that loads slowly: comments keep their streams alive, and they skip them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
import pytest_asyncio

from infermesh_router.placement import placer
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_runtime.errors import ResourceExhausted
from tests.conformance.scripted import behind_envoy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

PATIENCE_S = 1.0
"""How long the clients here wait for the next byte."""
LOAD_S = 1.3
COMMENTS_S = 0.2
CHAT: Any = [{"role": "user", "content": "hi"}]
BODY = {"model": "m", "messages": CHAT, "stream": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[LoadingWorker, str]]:
    """A worker that loads the model m, and the URL of its mesh, which writes a comment every 0.2 s."""
    worker = LoadingWorker(fraction=0.62)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placer, "TELL_S", COMMENTS_S)
        async with behind_envoy(worker, tmp_path_factory.mktemp("envoy"), wait_comment_s=COMMENTS_S) as url:
            await ask_all(url, patience_s=20)  # the clients import much when they are used first
            yield worker, url


@pytest.fixture
def worker(mesh: tuple[LoadingWorker, str]) -> LoadingWorker:
    """The worker, without a model, and not allowed to load one."""
    worker, _ = mesh
    worker.models, worker.refusal = (), None
    worker.may_load.clear()
    worker.asked.clear()
    worker.tell()
    return worker


@pytest.fixture
def url(mesh: tuple[LoadingWorker, str]) -> str:
    return mesh[1]


async def chat(client: openai.AsyncOpenAI, _claude: anthropic.AsyncAnthropic) -> str:
    stream = await client.chat.completions.create(model="m", messages=CHAT, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def completion(client: openai.AsyncOpenAI, _claude: anthropic.AsyncAnthropic) -> str:
    stream = await client.completions.create(model="m", prompt="hi", stream=True)
    return "".join([chunk.choices[0].text async for chunk in stream])


async def response(client: openai.AsyncOpenAI, _claude: anthropic.AsyncAnthropic) -> str:
    async with client.responses.stream(model="m", input="hi") as stream:
        errors = [event.message async for event in stream if event.type == "error"]
        return errors[0] if errors else (await stream.get_final_response()).output_text


async def message(_client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic) -> str:
    async with claude.messages.stream(model="m", messages=CHAT, max_tokens=9) as stream:
        return await stream.get_final_text()


Ask = Callable[[openai.AsyncOpenAI, anthropic.AsyncAnthropic], Awaitable[str]]
ASKS: list[Ask] = [chat, completion, response, message]


async def ask_all(url: str, *, patience_s: float = PATIENCE_S) -> list[str | BaseException]:
    """What each client reads of a stream, or its error. None of them tries again."""
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", timeout=patience_s, max_retries=0) as client,
        anthropic.AsyncAnthropic(base_url=url, api_key="x", timeout=patience_s, max_retries=0) as claude,
    ):
        return await asyncio.gather(*(ask(client, claude) for ask in ASKS), return_exceptions=True)


async def load_after(worker: LoadingWorker, seconds: float) -> None:
    await worker.asked.wait()
    await asyncio.sleep(seconds)
    worker.may_load.set()


async def test_clients_that_would_time_out_wait_for_a_slow_load(worker: LoadingWorker, url: str) -> None:
    answers, _ = await asyncio.gather(ask_all(url), load_after(worker, LOAD_S))
    assert answers == ["Hello world"] * len(ASKS)


async def test_without_comments_they_do_time_out(worker: LoadingWorker, tmp_path: Path) -> None:
    impatient = LoadingWorker()
    impatient.may_load.clear()
    async with behind_envoy(impatient, tmp_path, wait_comment_s=0) as url:
        answers = await ask_all(url)
    assert [type(answer) for answer in answers] == [openai.APITimeoutError] * 3 + [anthropic.APITimeoutError]


async def test_a_load_that_fails_late_is_the_error_that_each_client_knows(worker: LoadingWorker, url: str) -> None:
    worker.refusal = ResourceExhausted("no memory for it", reason="MODEL_DOES_NOT_FIT")
    answers, _ = await asyncio.gather(ask_all(url), load_after(worker, 3 * COMMENTS_S))
    assert [isinstance(answer, openai.APIError) for answer in answers] == [True, True, False, False]
    assert answers[2] == "no memory for it"
    assert isinstance(answers[3], anthropic.APIStatusError)
    assert all("no memory for it" in str(answer) for answer in (answers[0], answers[1], answers[3]))


async def test_envoy_passes_comments_on_at_once(worker: LoadingWorker, url: str) -> None:
    async with (
        httpx.AsyncClient(base_url=url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=BODY) as answer,
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        lines = aiter(answer.aiter_lines())
        seen = [await anext(lines) for _ in range(6)]
        assert not worker.may_load.is_set()
        assert seen[1::2] == [""] * 3
        assert seen[4] == ": loading m 62 %, 3 s left"
        worker.may_load.set()
        rest = [line async for line in lines]
    assert rest[-2:] == ["data: [DONE]", ""]
    assert all(line.startswith((": loading m", "data: ")) for line in rest if line)


async def test_ollamas_client_waits_in_silence(worker: LoadingWorker, url: str) -> None:
    async with ollama.AsyncClient(url, timeout=20) as client:

        async def read() -> str:
            parts = await client.chat("m", [ollama.Message(role="user", content="hi")], stream=True)
            return "".join([part.message.content or "" async for part in parts])

        text, _ = await asyncio.gather(read(), load_after(worker, 2 * COMMENTS_S))
    assert text == "Hello world"
