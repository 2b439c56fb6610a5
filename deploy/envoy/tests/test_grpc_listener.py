"""The second port passes the native services through unchanged, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh.openai.v1 import openai_pb2, openai_pb2_grpc
from infermesh_envoy import EnvoyProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def channel(envoy: EnvoyProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(envoy.grpc) as opened:
        yield opened


def inference_stub(channel: grpc.aio.Channel) -> Any:
    return inference_pb2_grpc.InferenceServiceStub(channel)


def delta(text: str) -> inference_pb2.GenerateResponse:
    return inference_pb2.GenerateResponse(delta=inference_pb2.Delta(text=text))


async def test_stream_metadata_and_trailers(router: FakeRouter, channel: grpc.aio.Channel) -> None:
    async def answer(
        request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        sent = dict(context.invocation_metadata())
        await context.send_initial_metadata((("x-seen", sent["x-request-id"]),))
        context.set_trailing_metadata((("x-last", "é".encode().hex()), ("x-raw-bin", b"\x00\xff")))
        yield delta("a")
        yield delta("b")

    router.generate = answer
    call = inference_stub(channel).Generate(
        inference_pb2.GenerateRequest(text="hi"), metadata=(("x-request-id", "mine"),)
    )
    assert [r.delta.text async for r in call] == ["a", "b"]
    assert dict(await call.initial_metadata())["x-seen"] == "mine"
    trailers = dict(await call.trailing_metadata())
    assert (trailers["x-last"], trailers["x-raw-bin"]) == ("c3a9", b"\x00\xff")


async def test_errors_keep_their_details(router: FakeRouter, channel: grpc.aio.Channel) -> None:
    async def answer(
        request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05"), ("retry-after", "3")))
        await context.abort(grpc.StatusCode.NOT_FOUND, 'no "model" é')
        yield delta("")

    router.generate = answer
    call = inference_stub(channel).Generate(inference_pb2.GenerateRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, 'no "model" é')
    assert dict(caught.value.trailing_metadata())["grpc-status-details-bin"] == b"\x08\x05"


async def test_silence_longer_than_the_rest_timeout(
    router: FakeRouter, channel: grpc.aio.Channel, http: httpx.AsyncClient
) -> None:
    """Only the client's own deadline counts: the REST listener of this Envoy gives up a request that began later."""
    asked, rest_gave_up = asyncio.Event(), asyncio.Event()

    async def answer(
        request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        asked.set()
        await rest_gave_up.wait()
        yield delta("late")

    async def say_nothing(body: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        await asyncio.Event().wait()
        yield body

    router.generate, router.chat = answer, say_nothing
    call = inference_stub(channel).Generate(inference_pb2.GenerateRequest(), timeout=20)
    late = asyncio.ensure_future(call.read())
    await asked.wait()
    assert (await http.post("/v1/chat/completions", json={})).status_code == 504
    assert not late.done()
    rest_gave_up.set()
    assert (await late).delta.text == "late"
    call.cancel()


async def test_deadline_reaches_the_router(router: FakeRouter, channel: grpc.aio.Channel) -> None:
    remaining_s: list[float] = []
    cancelled = asyncio.Event()

    async def answer(
        request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        remaining_s.append(context.time_remaining())
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield delta("")

    router.generate = answer
    await channel.channel_ready()
    timeout_s = 2.0  # of which the way to the router may take a part on a busy machine
    call = inference_stub(channel).Generate(inference_pb2.GenerateRequest(), timeout=timeout_s)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < remaining_s[0] < timeout_s + 0.1  # rounded up on its way
    await asyncio.wait_for(cancelled.wait(), 20)


async def test_cancel_reaches_the_router(router: FakeRouter, channel: grpc.aio.Channel) -> None:
    cancelled = asyncio.Event()

    async def answer(
        request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        try:
            yield delta("a")
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    router.generate = answer
    call = inference_stub(channel).Generate(inference_pb2.GenerateRequest())
    await call.read()
    call.cancel()
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_other_services_are_not_there(channel: grpc.aio.Channel) -> None:
    stub: Any = openai_pb2_grpc.OpenAIServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetHealth(openai_pb2.GetHealthRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "has no POST /infermesh.openai.v1.OpenAIService/GetHealth" in (caught.value.details() or "")


async def test_a_rest_client_is_told_that_this_port_speaks_grpc(envoy: EnvoyProcess) -> None:
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.post(f"http://{envoy.grpc}/v1/chat/completions", json={"model": "m"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "not_found")
    assert error["message"] == "This port speaks gRPC and has no POST /v1/chat/completions; REST is on another port"


async def test_http1_is_served_nothing(envoy: EnvoyProcess, router: FakeRouter) -> None:
    path = "/infermesh.inference.v1.InferenceService/Generate"
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.post(f"http://{envoy.grpc}{path}", headers={"content-type": "application/grpc"})
    assert answer.headers["grpc-status"] == str(grpc.StatusCode.FAILED_PRECONDITION.value[0])
    assert "speaks gRPC over HTTP/2" in unquote(answer.headers["grpc-message"])
