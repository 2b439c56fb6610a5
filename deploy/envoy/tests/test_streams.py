"""Answers pass through as the router sends them: chunk by chunk, bytes exact, and an abandoned one is cancelled."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
EVENT_STREAM = "text/event-stream"


async def test_body_and_answer_are_exact(router: FakeRouter, http: httpx.AsyncClient) -> None:
    sent = '{ "unknown": 1e400, "é": "\\ud800",\n "a": [}'.encode() + b"\xff\x00"
    received = []

    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        received.append((request.content_type, request.data))
        await context.send_initial_metadata((("x-infermesh-device", "cpu"),))
        yield HttpBody(content_type="application/json", data=request.data)

    router.chat = answer
    response = await http.post(CHAT, content=sent, headers={"content-type": "application/json; charset=utf-8"})
    assert received == [("application/json; charset=utf-8", sent)]
    assert (response.status_code, response.content) == (200, sent)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-infermesh-device"] == "cpu"
    assert response.headers["x-request-id"] == router.seen[0]["x-request-id"]


async def test_chunks_are_flushed_as_sent(router: FakeRouter, http: httpx.AsyncClient) -> None:
    seen = asyncio.Semaphore(0)
    chunks = [f"data: {i} é\n\n".encode() for i in range(20)] + [b"data: [DONE]\n\n"]

    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        for chunk in chunks:
            yield HttpBody(content_type=EVENT_STREAM, data=chunk)
            await seen.acquire()  # the next one is not made before the client has this one

    router.chat = answer
    async with http.stream("POST", CHAT, json={"stream": True}) as response:
        assert response.headers["content-type"] == EVENT_STREAM
        received = []
        async for chunk in response.aiter_raw():
            received.append(chunk)
            seen.release()
    assert received == chunks


async def test_long_stream_outlives_the_timeout(router: FakeRouter, http: httpx.AsyncClient) -> None:
    """The limit is on silence, not on length: 6 chunks, 0.7 s apart, against a timeout of 3 s."""

    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        for _ in range(6):
            yield HttpBody(content_type=EVENT_STREAM, data=b"data: x\n\n")
            await asyncio.sleep(0.7)

    router.chat = answer
    assert (await http.post(CHAT, json={})).text == "data: x\n\n" * 6


async def test_client_gone_cancels_the_call(router: FakeRouter, http: httpx.AsyncClient) -> None:
    cancelled = asyncio.Event()

    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        try:
            yield HttpBody(content_type=EVENT_STREAM, data=b"data: x\n\n")
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    router.chat = answer
    async with http.stream("POST", CHAT, json={}) as response:
        await anext(response.aiter_raw())
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_error_after_the_first_message_ends_the_stream(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type=EVENT_STREAM, data=b"data: x\n\n")
        raise RuntimeError("engine gone")

    router.chat = answer
    async with http.stream("POST", CHAT, json={}) as response:
        received = b""
        try:
            async for chunk in response.aiter_raw():
                received += chunk
        except httpx.RemoteProtocolError:
            pass
    assert (response.status_code, received) == (200, b"data: x\n\n")


async def test_stream_larger_than_any_buffer(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        for _ in range(70):
            yield HttpBody(content_type=EVENT_STREAM, data=b"x" * (1 << 20))

    router.chat = answer
    assert len((await http.post(CHAT, json={})).content) == 70 << 20


@pytest.mark.parametrize("name", ["smollm2", "org/name", "org%2Fname", "a%20b", "caf%C3%A9", "a:b@c"])
async def test_model_names(router: FakeRouter, http: httpx.AsyncClient, name: str) -> None:
    async def answer(model: str, context: Context) -> HttpBody:
        return HttpBody(content_type="text/plain", data=model.encode())

    router.model = answer
    response = await http.get(f"/v1/models/{name}")
    assert response.text == httpx.URL(f"http://a/{name}").path.removeprefix("/")


async def test_cors_preflight(http: httpx.AsyncClient) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    response = await http.options(CHAT, headers={"origin": "http://page", **wanted})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "http://page"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == "authorization, content-type, x-request-id, *"


async def test_cors_exposes_our_headers(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=b"{}")

    router.chat = answer
    response = await http.post(CHAT, json={}, headers={"origin": "http://page"})
    assert response.headers["access-control-expose-headers"] == "*"
