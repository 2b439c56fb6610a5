"""Asks a server with OpenAI's API for many streams at once, and notes when each piece of text arrives."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import httpx

from infermesh_client.bench.figures import Level, StreamTimes, summarise
from infermesh_client.told import plain, shown

_MAX_TOKENS = 1 << 32
"""Most tokens that an answer can have; a larger number counts something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask, of whom."""

    url: str
    """Base URL, with /v1 or without."""
    model: str
    max_tokens: int
    requests: int
    """How many requests each stream makes, one after the other."""
    key: str = ""
    device: str = ""
    """Where our router answers; other servers are asked without."""
    completions: bool = False
    """Whether to continue texts instead of chatting, as base models do."""

    def body(self, number: int) -> dict[str, Any]:
        """A request whose prompt begins like no other one's, so that no prefix cache has it."""
        text = (
            f"Story number {number}: tell me, at length and in detail, of a journey along a river, from its spring on."
        )
        asked = {"prompt": text} if self.completions else {"messages": [{"role": "user", "content": text}]}
        body = {"model": self.model, **asked, "max_tokens": self.max_tokens, "temperature": 0, "stream": True}
        return {**body, "stream_options": {"include_usage": True}, **({"device": self.device} if self.device else {})}

    def path(self) -> str:
        """The URL to post to."""
        kind = "completions" if self.completions else "chat/completions"
        return f"{self.url.rstrip('/').removesuffix('/v1')}/v1/{kind}"


async def measure(client: httpx.AsyncClient, load: Load, streams: int, on_end: Callable[[], None]) -> Level:
    """Keeps `streams` streams running at once; calls `on_end` after each request."""
    numbers = count(time.time_ns() // 1000)
    begun_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one_stream(client, load, numbers, on_end)) for _ in range(streams)]
    wall_s = time.monotonic() - begun_s
    return summarise(streams, [times for task in tasks for times in task.result()], wall_s)


async def ask_once(client: httpx.AsyncClient, load: Load) -> StreamTimes:
    """One request, which loads the model and opens a connection."""
    return await _ask(client, load, time.time_ns() // 1000)


async def _one_stream(
    client: httpx.AsyncClient, load: Load, numbers: Iterator[int], on_end: Callable[[], None]
) -> list[StreamTimes]:
    found = []
    for _ in range(load.requests):
        found.append(await _ask(client, load, next(numbers)))
        on_end()
    return found


async def _ask(client: httpx.AsyncClient, load: Load, number: int) -> StreamTimes:
    times = await _stream(client, load, number)
    return replace(times, error=shown(times.error, load.key)) if times.error else times


async def _stream(client: httpx.AsyncClient, load: Load, number: int) -> StreamTimes:
    headers = {"authorization": f"Bearer {load.key}"} if load.key else {}
    begun_s = time.monotonic()
    try:
        async with client.stream("POST", load.path(), json=load.body(number), headers=headers) as response:
            if response.is_error:
                return StreamTimes(error=_refusal(response.status_code, await response.aread()))
            return await _read(response, begun_s)
    except (httpx.HTTPError, ValueError) as error:
        return StreamTimes(error=f"{type(error).__name__}: {error}")
    except (AttributeError, TypeError, RecursionError):
        return StreamTimes(error="the stream has an event that is not of OpenAI's shape")


async def _read(response: httpx.Response, begun_s: float) -> StreamTimes:
    arrivals_s: list[float] = []
    tokens = 0
    ended = False
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            ended = True
            continue
        event = json.loads(data)
        if error := event.get("error"):
            return StreamTimes(error=f"the stream ended with an error: {_message(error)}")
        if any(map(_has_text, event.get("choices") or ())):
            arrivals_s.append(time.monotonic() - begun_s)
        tokens = _counted(event) or tokens
    if not ended:
        return StreamTimes(error="the stream broke off before its end")
    return StreamTimes(arrivals_s=arrivals_s, tokens=tokens or len(arrivals_s))


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(delta.get("content") or delta.get("reasoning_content") or choice.get("text"))


def _counted(event: dict[str, Any]) -> int:
    """The tokens of the answer as an event counts them; 0 if it does not, or by what is no such number."""
    tokens = (event.get("usage") or {}).get("completion_tokens")
    return tokens if type(tokens) is int and 0 < tokens <= _MAX_TOKENS else 0


def _refusal(status: int, content: bytes) -> str:
    text = content.decode(errors="replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    return f"{status}: {_message(document.get('error', document) if isinstance(document, dict) else document)}"


def _message(error: object) -> str:
    return plain(error.get("message", error) if isinstance(error, dict) else error)
