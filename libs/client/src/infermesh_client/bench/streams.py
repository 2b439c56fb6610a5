"""Asks a server with OpenAI's API for many streams at once, and notes when each piece of text arrives."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import httpx

from infermesh_client.bench.figures import Level, StreamTimes, summarise
from infermesh_client.bench.load import Load
from infermesh_client.told import connection_problem, plain, shown

_MAX_TOKENS = 1 << 32
"""Most tokens that an answer can have; a larger number counts something else."""
_KEY_WANTED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_TEXT = ("content", "reasoning_content", "reasoning")
"""Where the deltas of a chat have text; servers differ in how they call that of reasoning."""


async def measure(
    client: httpx.AsyncClient, load: Load, streams: int, levels: list[Level], on_end: Callable[[], None]
) -> None:
    """Keeps `streams` streams running at once, and adds what was measured to `levels`.

    Calls `on_end` after each request. If it is cancelled, it adds what the requests come to that have ended by then.
    """
    numbers = count(time.time_ns() // 1000)
    ended: list[StreamTimes] = []
    begun_s = last_s = time.monotonic()

    def end(times: StreamTimes) -> None:
        nonlocal last_s
        ended.append(times)
        last_s = time.monotonic()
        on_end()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(_one_stream(client, load, numbers, end))
    finally:
        if ended:
            levels.append(summarise(streams, ended, last_s - begun_s))


async def ask_once(client: httpx.AsyncClient, load: Load) -> StreamTimes:
    """One request, which loads the model and opens a connection."""
    return await _ask(client, load, time.time_ns() // 1000)


async def _one_stream(
    client: httpx.AsyncClient, load: Load, numbers: Iterator[int], end: Callable[[StreamTimes], None]
) -> None:
    for _ in range(load.requests):
        end(await _ask(client, load, next(numbers)))


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
    except httpx.TimeoutException:
        return StreamTimes(error=f"it was silent for {client.timeout.read:g} s; --timeout-s waits longer")
    except httpx.ConnectError as error:
        return StreamTimes(error=connection_problem(error))
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
        return StreamTimes(error=_no_end(response))
    return StreamTimes(arrivals_s=arrivals_s, tokens=tokens or len(arrivals_s), counted=tokens > 0)


def _no_end(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind == "text/event-stream":
        return "the stream broke off before its end"
    return f"the answer is no stream of events, but {kind or 'of no type'}; is the URL that of an OpenAI API?"


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or any(delta.get(name) for name in _TEXT))


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
    told = _message(document.get("error", document) if isinstance(document, dict) else document)
    return f"{status}: {told}{'; --api-key-file FILE gives the API key' if status in _KEY_WANTED else ''}"


def _message(error: object) -> str:
    return plain(error.get("message", error) if isinstance(error, dict) else error)
