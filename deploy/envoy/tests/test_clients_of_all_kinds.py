"""What clients of all kinds send is answered: unknown parameters, HEAD, HTTP/1.0, compressed bodies."""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc import StatusCode

from deploy.envoy.tests.conftest import Context, FakeRouter
from infermesh_envoy import EnvoyProcess
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.status import to_status, to_trailing_metadata

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"


async def tell_model(model: str, _context: Context) -> HttpBody:
    return HttpBody(content_type="application/json", data=f'{{"id": "{model}"}}'.encode())


async def digest(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    metadata = dict(context.invocation_metadata())
    found = f"{len(request.data)} {hashlib.sha256(request.data).hexdigest()} {metadata['x-infermesh-body-bytes']}"
    yield HttpBody(content_type="text/plain", data=found.encode())


async def talk(envoy: EnvoyProcess, request: str) -> bytes:
    """All that the server sends on a connection until it closes it."""
    where = envoy.address("rest")
    reader, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("query", ["client_version=0.1", "model=B", "a=%20&b", "?", "x=%ff", "model=B&model=C#d"])
async def test_parameters_are_ignored(router: FakeRouter, http: httpx.AsyncClient, query: str) -> None:
    router.model = tell_model
    answer = await http.get(f"/v1/models/org/A?{query}")
    assert (answer.status_code, answer.json()) == (200, {"id": "org/A"})


async def test_parameters_of_a_post_are_ignored(router: FakeRouter, http: httpx.AsyncClient) -> None:
    router.chat = digest
    answer = await http.post(f"{CHAT}?api-version=2024-10-21", content=b"{}")
    assert answer.text.startswith("2 ")


@pytest.mark.parametrize(
    ("query", "told"), [("?limit=2&order=asc", "limit=2&order=asc"), ("?q=é", "q=%C3%A9"), ("", None)]
)
async def test_the_router_is_told_the_parameters(
    router: FakeRouter, http: httpx.AsyncClient, query: str, told: str | None
) -> None:
    router.chat = digest
    await http.post(f"{CHAT}{query}", content=b"{}", headers={"x-infermesh-query": "forged=1"})
    assert router.seen[0].get("x-infermesh-query") == told


async def test_parameters_that_grpc_could_not_carry(router: FakeRouter, envoy: EnvoyProcess) -> None:
    router.chat = digest
    body = "content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    answer = await talk(envoy, f"POST {CHAT}?q=é HTTP/1.1\r\nhost: localhost\r\n{body}")
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))


async def tell_deployment(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    found = dict(context.invocation_metadata()).get("x-infermesh-deployment", "none")
    yield HttpBody(content_type="text/plain", data=f"{found} {request.data.decode()}".encode())


@pytest.mark.parametrize(
    ("path", "deployment"),
    [
        ("/openai/deployments/my%2Fmodel/chat/completions?api-version=2024-10-21", "my%2Fmodel"),
        ("/openai/v1/chat/completions", "none"),
        ("/chat/completions", "none"),
        (CHAT, "none"),
    ],
)
async def test_other_forms_of_the_path(router: FakeRouter, http: httpx.AsyncClient, path: str, deployment: str) -> None:
    router.chat = tell_deployment
    answer = await http.post(path, content=b"{}", headers={"x-infermesh-deployment": "said by the client"})
    assert (answer.status_code, answer.text) == (200, f"{deployment} {{}}")


async def test_head_is_get_without_a_body(router: FakeRouter, envoy: EnvoyProcess, http: httpx.AsyncClient) -> None:
    router.model = tell_model
    path = "/v1/models/A"
    whole = await http.get(path)
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"] == "application/json"
    assert int(head.headers["content-length"]) == len(whole.content)
    once = f"HEAD {path} HTTP/1.1\r\nhost: localhost\r\n"
    told = await talk(envoy, f"{once}\r\n{once}connection: close\r\n\r\n")
    assert told.count(b"HTTP/1.1 200") == 2
    assert told.endswith(b"\r\n\r\n")


async def test_head_of_what_fails(envoy: EnvoyProcess, router: FakeRouter) -> None:
    async def refuse(_model: str, context: Context) -> HttpBody:
        await context.abort(5, "no such model")
        raise AssertionError

    router.model = refuse
    for path, status in (
        ("/v1/models/A", 404),
        ("/nowhere", 404),
        (CHAT, 405),
        ("/metrics", 501),
        ("/mesh/v1/events?x", 405),
    ):
        told = await talk(envoy, f"HEAD {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert told.startswith(f"HTTP/1.1 {status}".encode()), (path, told)
        assert told.endswith(b"\r\n\r\n")
        assert b"grpc-" not in told


@pytest.mark.parametrize("host", ["", "host: localhost\r\n"])
async def test_http_1_0(envoy: EnvoyProcess, router: FakeRouter, host: str) -> None:
    router.model, router.chat = tell_model, digest
    told = await talk(envoy, f"GET /v1/models/A HTTP/1.0\r\n{host}\r\n")
    assert told.startswith(b"HTTP/1.0 200")
    assert told.endswith(b'\r\n\r\n{"id": "A"}')
    told = await talk(envoy, f"POST {CHAT} HTTP/1.0\r\n{host}content-length: 2\r\n\r\n{{}}")
    assert b"\r\n\r\n2 " in told, "a stream without chunks, which HTTP/1.0 does not have"


@pytest.mark.parametrize(
    ("sent", "told"),
    [("gzip", "gzip"), ("ZSTD", "zstd"), ("br, gzip", "br, gzip"), ("b\u00e4h" * 40, "b??h" * 20), (None, None)],
)
async def test_the_router_learns_how_a_body_is_compressed(
    router: FakeRouter, http: httpx.AsyncClient, sent: str | None, told: str | None
) -> None:
    """And gets it as it came, because it unpacks it within its own bounds."""
    router.chat = digest
    headers = {"x-infermesh-body-encoding": "gzip"} | ({"content-encoding": sent} if sent else {})
    packed = gzip.compress(bytes(3_000_000))
    answer = await http.post(CHAT, content=packed, headers=httpx.Headers(headers, encoding="utf-8"))
    assert answer.text == f"{len(packed)} {hashlib.sha256(packed).hexdigest()} {len(packed)}"
    assert router.seen[-1].get("x-infermesh-body-encoding") == told
    assert "content-encoding" not in router.seen[-1]


@pytest.mark.parametrize(
    ("reason", "status"), [("REQUEST_TOO_LARGE", 413), ("UNSUPPORTED_ENCODING", 415), ("INVALID_ENCODING", 400)]
)
async def test_the_status_of_bodies_that_the_router_refuses(
    router: FakeRouter, http: httpx.AsyncClient, reason: str, status: int
) -> None:
    async def refuse(_request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        error = InvalidArgument("The limit is 64 MiB.", reason=reason)
        await context.abort(StatusCode.INVALID_ARGUMENT, error.message, to_trailing_metadata(error, to_status(error)))
        yield HttpBody()

    router.chat = refuse
    answer = await http.post(CHAT, content=b"x")
    assert (answer.status_code, answer.json()["error"]) == (
        status,
        {"message": "The limit is 64 MiB.", "type": "invalid_request_error", "param": None, "code": reason.lower()},
    )
