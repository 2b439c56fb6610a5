"""Envoy may start before its router, and outlive it."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter, StartRouter
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"


async def answering(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    yield HttpBody(content_type="application/json", data=b"{}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def seconds_until_answered(client: httpx.AsyncClient) -> float:
    start_s = time.monotonic()
    while (await client.post(CHAT, json={})).status_code != 200:
        await asyncio.sleep(0.02)
        assert time.monotonic() - start_s < 10
    return time.monotonic() - start_s


def assert_unavailable(response: httpx.Response) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (503, "server_error", "unavailable")
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_router_comes_goes_and_comes_back(
    router: FakeRouter, start_router: StartRouter, tmp_path: Path, host: str
) -> None:
    router.chat = answering
    port, free = free_port(), Address("127.0.0.1", 0)
    log = tmp_path / "access.log"
    options = EnvoyOptions(http=free, grpc=free, router=Address(host, port), access_log=str(log))
    with EnvoyProcess(options, tmp_path) as envoy:
        async with httpx.AsyncClient(base_url=envoy.http, timeout=10) as client:
            for _ in range(2):
                assert_unavailable(await client.post(CHAT, json={}))
                async with start_router(router, port):
                    assert await seconds_until_answered(client) < 1
            assert_unavailable(await client.post(CHAT, json={}))
            assert_unavailable(await client.get("/v1/models"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["status"] for line in lines} == {200, 503}
    answered = next(line for line in lines if line["status"] == 200)
    assert (answered["listener"], answered["method"], answered["path"]) == ("rest", "POST", CHAT)
    assert (lines[-1]["method"], lines[-1]["path"]) == ("GET", "/v1/models")
