"""Every error a REST client can meet comes as OpenAI's error object with the right status."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from deploy.envoy.tests.conftest import ChatHandler, Context, FakeRouter
from infermesh_envoy import EnvoyProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
AWKWARD = 'a "model" \\ é 😀\n\t\x01 <x> \u2028 %41'


def failing(code: int, message: str, *details: Message, early_headers: Sequence[tuple[str, str]] = ()) -> ChatHandler:
    """A router that fails with this status before its first message."""
    packed: list[any_pb2.Any] = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)

    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        if early_headers:
            await context.send_initial_metadata(early_headers)
        status = status_pb2.Status(code=code, message=message, details=packed)
        await context.abort_with_status(rpc_status.to_status(status))
        yield HttpBody()

    return answer


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    assert not [name for name in response.headers if name.startswith("grpc-")]
    body: dict[str, dict[str, Any]] = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (grpc.StatusCode.CANCELLED, 499, "server_error"),
        (grpc.StatusCode.UNKNOWN, 500, "server_error"),
        (grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "server_error"),
        (grpc.StatusCode.NOT_FOUND, 404, "invalid_request_error"),
        (grpc.StatusCode.ALREADY_EXISTS, 409, "invalid_request_error"),
        (grpc.StatusCode.PERMISSION_DENIED, 403, "permission_error"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "rate_limit_error"),
        (grpc.StatusCode.FAILED_PRECONDITION, 400, "invalid_request_error"),
        (grpc.StatusCode.ABORTED, 409, "invalid_request_error"),
        (grpc.StatusCode.OUT_OF_RANGE, 400, "invalid_request_error"),
        (grpc.StatusCode.UNIMPLEMENTED, 501, "server_error"),
        (grpc.StatusCode.INTERNAL, 500, "server_error"),
        (grpc.StatusCode.UNAVAILABLE, 503, "server_error"),
        (grpc.StatusCode.DATA_LOSS, 500, "server_error"),
        (grpc.StatusCode.UNAUTHENTICATED, 401, "authentication_error"),
    ],
)
async def test_bare_status(
    router: FakeRouter, http: httpx.AsyncClient, code: grpc.StatusCode, status: int, kind: str
) -> None:
    router.chat = failing(code.value[0], AWKWARD)
    response = await http.post(CHAT, json={})
    assert response.status_code == status
    assert error_of(response) == {"message": AWKWARD, "type": kind, "param": None, "code": code.name.lower()}


@pytest.mark.parametrize("early_headers", [(), (("x-infermesh-endpoint", "here"),)])
async def test_detailed_status(
    router: FakeRouter, http: httpx.AsyncClient, early_headers: Sequence[tuple[str, str]]
) -> None:
    info = error_details_pb2.ErrorInfo(reason="MODEL_NOT_FOUND", domain="infermesh", metadata={'k"{[': '}]"'})
    fields = [error_details_pb2.BadRequest.FieldViolation(field=name, description=AWKWARD) for name in ("model", "n")]
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=1))
    details = (info, error_details_pb2.BadRequest(field_violations=fields), retry)
    router.chat = failing(5, AWKWARD, *details, early_headers=early_headers)
    response = await http.post(CHAT, json={}, headers={"x-request-id": "mine", "origin": "http://page"})
    assert response.status_code == 404
    assert error_of(response) == {
        "message": AWKWARD,
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert response.headers["retry-after"] == "3"
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["access-control-allow-origin"] == "http://page"
    assert response.headers.get("x-infermesh-endpoint") == (early_headers[0][1] if early_headers else None)


async def test_detail_of_an_unknown_type(router: FakeRouter, http: httpx.AsyncClient) -> None:
    router.chat = failing(3, AWKWARD, wrappers_pb2.StringValue(value="?"))
    response = await http.post(CHAT, json={})
    assert response.status_code == 400
    assert error_of(response)["message"] == AWKWARD


async def test_retry_after_trailer(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        context.set_trailing_metadata((("retry-after", "7"),))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no worker")
        yield HttpBody()

    router.chat = answer
    response = await http.post(CHAT, json={})
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize("code", [14, 8])
async def test_every_503_and_429_says_when_to_retry(router: FakeRouter, http: httpx.AsyncClient, code: int) -> None:
    router.chat = failing(code, "from a gRPC that knows no RetryInfo")
    assert (await http.post(CHAT, json={})).headers["retry-after"] == "1"


@pytest.mark.parametrize(("code", "told"), [(4, "false"), (12, "false"), (8, None), (13, None), (14, None)])
async def test_sdks_are_told_not_to_repeat_what_would_end_so_again(
    router: FakeRouter, http: httpx.AsyncClient, code: int, told: str | None
) -> None:
    router.chat = failing(code, "no")
    assert (await http.post(CHAT, json={})).headers.get("x-should-retry") == told


@pytest.mark.parametrize("path", ["/health", CHAT, "/nowhere"])
async def test_answer_to_head_has_no_body(envoy: EnvoyProcess, path: str) -> None:
    """Bytes after its headers would be read as the beginning of the connection's next answer."""
    where = envoy.address("rest")
    reader, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(
        f"HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    )
    first = await reader.readuntil(b"\r\n\r\n")
    status = {"/health": 501, CHAT: 405, "/nowhere": 404}[path]  # this router has no health
    assert first.startswith(f"HTTP/1.1 {status}".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404")
    writer.close()
    await writer.wait_closed()


async def test_method_the_router_does_not_have(router: FakeRouter, http: httpx.AsyncClient) -> None:
    response = await http.get("/metrics")
    assert response.status_code == 501
    assert error_of(response)["code"] == "unimplemented"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/moderations?a=%22b", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/some/model", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("PUT", f"{CHAT}?page=2", 405, "method_not_allowed"),
        ("GET", f"{CHAT}/x", 404, "not_found"),
        ("POST", "/v1/moderations", 404, "not_found"),
        ("POST", "/v1/images/generations", 404, "not_found"),
        ("POST", "/v1/uploads", 404, "not_found"),
        ("GET", "/chat/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models/%ff", 400, "bad_request"),
        ("GET", "/%00", 400, "bad_request"),
    ],
)
async def test_bad_path_or_method(http: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    response = await http.request(method, path, headers={"origin": "http://page"})
    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert '"error"' not in error["message"]
    if status == 404:
        assert error["message"].startswith(f"There is no {method} {path.partition('?')[0]}; there are POST {CHAT}, ")
    if status == 405:
        assert response.headers["allow"] == ("POST" if "/chat/" in path else "GET, HEAD")
    if status in {404, 405}:
        assert response.headers["access-control-allow-origin"] == "http://page"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b'GET /v1/models/\xff"\\ HTTP/1.1\r\nhost: localhost\r\n\r\n', 400, "bad_request"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: many\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 403, "forbidden"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n123",
            408,
            "request_timeout",
        ),
    ],
)
async def test_bad_http(envoy: EnvoyProcess, request_bytes: bytes, status: int, code: str) -> None:
    """These never reach a filter: Envoy refuses them while it reads them."""
    where = envoy.address("rest")
    reader, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(request_bytes)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in head if line.startswith("content-length"))
    error = json.loads(await reader.readexactly(length))["error"]
    writer.close()
    await writer.wait_closed()
    assert int(head[0].split()[1]) == status
    assert "content-type: application/json" in head
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)
    assert error["message"]


async def test_silent_router_times_out(router: FakeRouter, http: httpx.AsyncClient) -> None:
    cancelled = asyncio.Event()

    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield HttpBody()

    router.chat = answer
    response = await http.post(CHAT, json={})
    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (504, "server_error", "timeout")
    assert response.headers["retry-after"] == "1"
    await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-bin", "!!!"),
        ("grpc-encoding", "zip"),
        ("grpc-timeout", "soon"),
        ("grpc-timeout", "9999999999S"),
        ("grpc-internal-encoding-request", "x"),
        ("cookie", "c" * 50_000),
    ],
)
async def test_a_header_that_grpc_would_fail_on_does_no_harm(
    router: FakeRouter, http: httpx.AsyncClient, name: str, value: str
) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=b"{}")

    router.chat = answer
    response = await http.post(CHAT, json={}, headers={name: value})
    assert (response.status_code, response.content) == (200, b"{}")


async def test_grpc_timeout_is_the_deadline(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=b'{"s":%d}' % context.time_remaining())

    router.chat = answer
    response = await http.post(CHAT, json={}, headers={"grpc-timeout": "100S"})
    assert 90 <= response.json()["s"] <= 100
