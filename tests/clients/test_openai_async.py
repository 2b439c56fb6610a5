"""The openai package, asynchronous."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.clients.running import MODEL

QUESTION: list[Any] = [{"role": "user", "content": "Name a colour of the rainbow."}]


class Colour(BaseModel):
    """What `.parse()` makes of an answer."""

    name: str


@pytest_asyncio.fixture
async def client(mesh_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{mesh_url}/v1", api_key="any", timeout=60) as opened:
        yield opened


async def test_many_chats_at_once(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "temperature": 0}
    answers = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(8)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1


async def test_the_stream_helper(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 64, "temperature": 0}
    async with client.chat.completions.stream(**asked, response_format=Colour) as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Colour)


async def test_parse(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Colour, max_tokens=64, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


async def test_a_cancelled_call_leaves_the_client_usable(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 2000, "stream": True}
    first = asyncio.Event()

    async def read() -> None:
        async for _ in await client.chat.completions.create(**asked, extra_body={"ignore_eos": True}):
            first.set()

    reading = asyncio.create_task(read())
    await first.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (await client.completions.create(model=MODEL, prompt="One,", max_tokens=1)).choices


async def test_errors(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.1, max_retries=0).completions.create(
            model=MODEL, prompt="One,", max_tokens=2000, extra_body={"ignore_eos": True}
        )
