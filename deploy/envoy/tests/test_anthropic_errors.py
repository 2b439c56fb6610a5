"""Every error that one of Anthropic's clients can meet comes in Anthropic's shape, with a status that it knows."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import ChatHandler, Context, FakeRouter
from infermesh_envoy import EnvoyOptions, EnvoyProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01"}
AWKWARD = 'a "model" \\ é 😀\n\t\x01'


def failing(code: grpc.StatusCode) -> ChatHandler:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        await context.abort(code, AWKWARD)
        yield HttpBody()

    return answer


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    assert not [name for name in response.headers if name.startswith("grpc-")]
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body["error"]) == {"type", "message", "details"}
    found: dict[str, Any] = body["error"]
    return found


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error"),
        (grpc.StatusCode.UNAUTHENTICATED, 401, "authentication_error"),
        (grpc.StatusCode.PERMISSION_DENIED, 403, "permission_error"),
        (grpc.StatusCode.NOT_FOUND, 404, "not_found_error"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "rate_limit_error"),
        (grpc.StatusCode.INTERNAL, 500, "api_error"),
        (grpc.StatusCode.UNIMPLEMENTED, 501, "api_error"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "timeout_error"),
        (grpc.StatusCode.UNAVAILABLE, 529, "overloaded_error"),
    ],
)
async def test_a_status_of_the_router(
    router: FakeRouter, http: httpx.AsyncClient, code: grpc.StatusCode, status: int, kind: str
) -> None:
    router.chat = failing(code)
    response = await http.post(f"{MESSAGES}?beta=true", json={}, headers={"x-request-id": "mine"})
    assert response.status_code == status
    details = {"error_code": code.name.lower()}
    assert error_of(response) == {"type": kind, "message": AWKWARD, "details": details}
    assert response.headers["request-id"] == "mine"
    assert ("retry-after" in response.headers) == (status in (429, 529))


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "kind"),
    [
        (f"GET {MESSAGES}", {}, 405, "invalid_request_error"),
        (f"DELETE {MESSAGES}/count_tokens?beta=true", {}, 405, "invalid_request_error"),
        (f"POST {MESSAGES}/batches", {}, 404, "not_found_error"),
        ("POST /v1/uploads", VERSION, 404, "not_found_error"),
        ("GET /v1/models/%ff", VERSION, 400, "invalid_request_error"),
        (f"POST {MESSAGES}", VERSION | {"host": "elsewhere"}, 403, "permission_error"),
        (f"POST {MESSAGES}", VERSION | {"origin": "http://elsewhere"}, 403, "permission_error"),
    ],
)
async def test_what_envoy_refuses_by_itself(
    http: httpx.AsyncClient, request_line: str, headers: dict[str, str], status: int, kind: str
) -> None:
    response = await http.request(*request_line.split(), headers=headers)
    error = error_of(response)
    assert (response.status_code, error["type"]) == (status, kind)
    assert error["message"]
    assert error["details"]["error_code"]
    assert ("allow" in response.headers) == (status == 405)


async def test_a_body_that_is_too_large(http: httpx.AsyncClient) -> None:
    response = await http.post(MESSAGES, content=b" " * (EnvoyOptions().max_body_bytes + 1))
    assert response.status_code == 413
    assert error_of(response)["type"] == "request_too_large"


async def test_a_silent_router_times_out(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        await asyncio.Event().wait()
        yield HttpBody()

    router.chat = answer
    response = await http.post(MESSAGES, json={})
    assert response.status_code == 504
    assert error_of(response)["type"] == "timeout_error"


async def test_other_clients_have_their_own_shape(router: FakeRouter, http: httpx.AsyncClient) -> None:
    router.chat = failing(grpc.StatusCode.UNAVAILABLE)
    response = await http.post("/v1/chat/completions", json={})
    assert response.status_code == 503
    assert "type" not in response.json()
    assert "request-id" not in response.headers


async def test_an_answer_passes_unchanged(router: FakeRouter, http: httpx.AsyncClient) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=request.data)

    router.chat = answer
    body = json.dumps({"text": AWKWARD}).encode()
    headers = {"anthropic-beta": "tools-2024-04-04,more", "x-api-key": "k", "x-request-id": "mine"}
    response = await http.post(f"{MESSAGES}?beta=true", content=body, headers=headers)
    assert (response.status_code, response.content) == (200, body)
    assert response.headers["request-id"] == "mine"
    (seen,) = router.seen
    assert seen["x-api-key"] == "k"
    assert seen["anthropic-version"]


async def test_the_root_says_that_somebody_is_there(envoy: EnvoyProcess, http: httpx.AsyncClient) -> None:
    got, asked = await http.get("/"), await http.head("/")
    assert (got.status_code, got.text) == (200, "here\n")
    assert (asked.status_code, asked.content) == (200, b"")
