"""A request's outputs between the engine process and the RPC that writes them."""

import asyncio

import pytest

from infermesh_engine.requests.output import Finished, FinishReason
from infermesh_runtime.errors import Unavailable
from infermesh_worker.engine_client.output_stream import OutputStream, merge
from infermesh_worker.engine_client.request_meter import RequestTiming
from infermesh_worker.engine_process.frames import WireDelta, WireLogprob


def delta(choice: int, text: str, *token_ids: int) -> WireDelta:
    return ("1", choice, text, list(token_ids), [])


def end(choice: int = 0) -> Finished:
    return Finished("1", choice, FinishReason.STOP)


async def test_reader_gets_what_is_pushed_while_it_waits() -> None:
    stream = OutputStream(1, RequestTiming(0.0, 1))
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    stream.push(delta(0, "a", 1))
    assert await reading == ([delta(0, "a", 1)], [])
    stream.finish(end())
    assert stream.ended
    assert await stream.read() == ([], [end()])
    assert await stream.read() == ([], [])


async def test_slow_reader_gets_one_delta_for_each_choice() -> None:
    stream = OutputStream(2, RequestTiming(0.0, 1))
    for part in (delta(0, "a", 1), delta(1, "x", 8), delta(0, "b", 2, 3)):
        stream.push(part)
    stream.finish(end(1))
    assert await stream.read() == ([delta(0, "ab", 1, 2, 3), delta(1, "x", 8)], [end(1)])
    assert not stream.ended


async def test_error_comes_after_what_was_pushed() -> None:
    stream = OutputStream(1, RequestTiming(0.0, 1))
    stream.push(delta(0, "a", 1))
    stream.fail(Unavailable("first"))
    stream.fail(Unavailable("second"))
    assert (await stream.read())[0] == [delta(0, "a", 1)]
    with pytest.raises(Unavailable, match="first"):
        await stream.read()


async def test_cancelled_reader_leaves_the_stream_usable() -> None:
    stream = OutputStream(1, RequestTiming(0.0, 1))
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    stream.push(delta(0, "a", 1))
    assert (await stream.read())[0] == [delta(0, "a", 1)]


def test_merge_keeps_logprobs_with_their_tokens() -> None:
    one, two = WireLogprob(1, -0.5, b"a"), WireLogprob(2, -1.5, b"")
    parts: list[WireDelta] = [("1", 0, "a", [1], [one]), ("1", 0, "", [2], [two])]
    assert merge(parts) == [("1", 0, "a", [1, 2], [one, two])]
