"""Bodies up to 64 MiB pass in both directions; beyond that the client gets an answer, not a reset connection."""

import asyncio
import hashlib
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter
from infermesh_envoy import EnvoyProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
MEBIBYTE = 1 << 20
LIMIT = 64 * MEBIBYTE


async def refusing(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    await context.abort(3, "not JSON")
    yield HttpBody()


async def digesting(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    yield HttpBody(content_type="text/plain", data=hashlib.sha256(request.data).hexdigest().encode())


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // MEBIBYTE):
        yield b"x" * MEBIBYTE


def assert_too_large(response: httpx.Response) -> None:
    assert response.status_code == 413
    assert response.json()["error"] == {
        "message": "The request body is larger than 64 MiB",
        "type": "invalid_request_error",
        "param": None,
        "code": "request_too_large",
    }


@pytest.mark.parametrize("chunked", [False, True])
async def test_largest_body(router: FakeRouter, http: httpx.AsyncClient, chunked: bool) -> None:
    router.chat = digesting
    body = b"x" * LIMIT
    response = await http.post(CHAT, content=pieces(LIMIT) if chunked else body)
    assert response.text == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("mebibytes", [65, 100])
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_too_large(router: FakeRouter, http: httpx.AsyncClient, mebibytes: int, chunked: bool) -> None:
    router.chat = refusing
    size = mebibytes * MEBIBYTE
    assert_too_large(await http.post(CHAT, content=pieces(size) if chunked else b"x" * size))


async def test_body_one_byte_too_large(router: FakeRouter, http: httpx.AsyncClient) -> None:
    router.chat = refusing
    assert_too_large(await http.post(CHAT, content=b"x" * (LIMIT + 1)))


async def test_body_too_large_from_a_client_that_reads_late(router: FakeRouter, envoy: EnvoyProcess) -> None:
    """http.client writes the whole body before it looks for an answer."""

    def post() -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(str(envoy.address("rest")), timeout=20)
        connection.request("POST", CHAT, body=b"x" * (100 * MEBIBYTE))
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body

    router.chat = refusing
    status, body = await asyncio.to_thread(post)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


async def test_largest_message_of_an_answer(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=b"x" * (63 * MEBIBYTE))

    router.chat = answer
    assert len((await http.post(CHAT, json={})).content) == 63 * MEBIBYTE


async def test_message_of_an_answer_too_large(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=b"x" * (LIMIT + MEBIBYTE))

    router.chat = answer
    response = await http.post(CHAT, json={})
    assert response.status_code >= 400
    assert response.json()["error"]["message"]
