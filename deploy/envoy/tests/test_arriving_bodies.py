"""Bodies that arrive slowly, or many at once: they take a bounded memory of Envoy, and others are served meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter, envoy_options
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_envoy import EnvoyOptions, EnvoyProcess
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
GENERATE = "/infermesh.inference.v1.InferenceService/Generate"
MIB = 1 << 20
LIMIT, CLIENT_LIMIT = 8 * MIB, 4 * MIB


async def echo_size(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
    """Like the router, it refuses a body that was cut."""
    if not request.data.endswith(b"}"):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not JSON")
    yield HttpBody(content_type="text/plain", data=str(len(request.data)).encode())


def body_of(size: int) -> bytes:
    return b"x" * (size - 1) + b"}"


def small_options(router_port: int, folder: Path) -> EnvoyOptions:
    return replace(
        envoy_options(router_port, folder),
        max_arriving_bytes=LIMIT,
        max_client_arriving_bytes=CLIENT_LIMIT,
        body_timeout_s=2.0,
        timeout_s=20.0,
    )


@contextmanager
def running_envoy(options: EnvoyOptions, folder: Path) -> Iterator[EnvoyProcess]:
    with EnvoyProcess(options, folder) as running:
        yield running
        assert "[lua]" not in running.log()


@pytest.fixture(scope="module")
def small_envoy(serving: tuple[FakeRouter, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProcess]:
    folder = tmp_path_factory.mktemp("small")
    with running_envoy(small_options(serving[1], folder), folder) as envoy:
        yield envoy


@pytest.fixture(scope="module")
def patient_envoy(serving: tuple[FakeRouter, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProcess]:
    """It waits for stalled uploads longer than a test on a busy machine takes."""
    folder = tmp_path_factory.mktemp("patient")
    with running_envoy(replace(small_options(serving[1], folder), body_timeout_s=60.0), folder) as envoy:
        yield envoy


@pytest_asyncio.fixture(loop_scope="session")
async def client(small_envoy: EnvoyProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=small_envoy.http, timeout=20) as http:
        yield http


@pytest_asyncio.fixture(loop_scope="session")
async def patient_client(patient_envoy: EnvoyProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=patient_envoy.http, timeout=20) as http:
        yield http


def received_bytes(envoy: EnvoyProcess) -> int:
    """What Envoy has read from its clients on the REST port."""
    return int(envoy.admin("/stats?filter=^http.rest.downstream_cx_rx_bytes_total$").rpartition(b":")[2])


@asynccontextmanager
async def stalled(envoy: EnvoyProcess, source: str, mebibytes: int) -> AsyncIterator[asyncio.StreamReader]:
    """An upload that stops a byte before its end, once Envoy has read the rest."""
    where = envoy.address("rest")
    reader, writer = await asyncio.open_connection(where.host, where.port, local_addr=(source, 0))
    size = mebibytes * MIB
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n"
    read_bytes = received_bytes(envoy) + size
    writer.write(head.encode() + b"x" * (size - 1))
    await writer.drain()
    try:
        async with asyncio.timeout(20):  # much of it may still be in the kernel, and another body would come first
            while await asyncio.to_thread(received_bytes, envoy) < read_bytes:
                pass
        yield reader
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
    error: dict[str, Any] = json.loads(await reader.readexactly(length))["error"]
    return int(head.split()[1]), error


async def stall_over_grpc(envoy: EnvoyProcess) -> grpc.aio.AioRpcError:
    """The error of a gRPC request whose client never says that it has ended."""
    async with grpc.aio.insecure_channel(envoy.grpc) as channel:
        call = channel.stream_unary(GENERATE)(timeout=20)
        await call.write(body_of(1000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    return caught.value


async def until_status(client: httpx.AsyncClient, status: int, mebibytes: int) -> httpx.Response:
    """The first answer with that status: Envoy may still be reading what another connection has sent."""
    async with asyncio.timeout(20):
        while True:
            response = await client.post(CHAT, content=body_of(mebibytes * MIB))
            if response.status_code == status:
                return response


async def test_the_router_is_told_the_size(router: FakeRouter, client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield body_of(1000)

    router.chat = echo_size
    headers = {"x-infermesh-body-bytes": "1"}  # a client cannot say less
    assert (await client.post(CHAT, content=body_of(5000), headers=headers)).text == "5000"
    assert (await client.post(CHAT, content=pieces())).text == "3000"
    assert [seen["x-infermesh-body-bytes"] for seen in router.seen] == ["5000", "3000"]


async def test_stalled_uploads_end_and_leave_room_for_others(
    router: FakeRouter, client: httpx.AsyncClient, small_envoy: EnvoyProcess
) -> None:
    router.chat = echo_size
    async with AsyncExitStack() as stack:
        uploads = [await stack.enter_async_context(stalled(small_envoy, "127.0.0.2", 3)) for _ in range(12)]
        other = await client.post(CHAT, content=body_of(3 * MIB))  # of another address: there is still room
        small = await client.post(CHAT, content=b"{}")
        over_grpc = asyncio.create_task(stall_over_grpc(small_envoy))
        answers = await asyncio.gather(*map(answer_of, uploads))
        refusal = await over_grpc
    assert (refusal.code(), refusal.details()) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "The request did not arrive in time",
    )
    assert (other.status_code, small.status_code) == (200, 200)
    assert {(status, error["code"]) for status, error in answers} == {(408, "request_timeout")}


async def test_beyond_its_share_a_client_is_told_to_retry(
    router: FakeRouter, patient_client: httpx.AsyncClient, patient_envoy: EnvoyProcess
) -> None:
    router.chat = echo_size
    async with stalled(patient_envoy, "127.0.0.1", 3):
        refused = await until_status(patient_client, 429, 3)
        assert (await patient_client.post(CHAT, content=b"{}")).status_code == 200
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"] == {
        "message": "Too many large request bodies are arriving; try again",
        "type": "rate_limit_error",
        "param": None,
        "code": "bodies_too_large",
    }
    assert (await until_status(patient_client, 200, 3)).text == str(3 * MIB)


async def test_room_comes_back_when_a_client_leaves(
    router: FakeRouter, patient_client: httpx.AsyncClient, patient_envoy: EnvoyProcess
) -> None:
    router.chat = echo_size
    for _ in range(5):
        async with stalled(patient_envoy, "127.0.0.1", 3):
            await until_status(patient_client, 429, 3)
        await until_status(patient_client, 200, 3)


@pytest.mark.parametrize("plane", ["rest", "grpc"])
async def test_bodies_for_no_service_are_dropped(small_envoy: EnvoyProcess, plane: str) -> None:
    """small_envoy looks for errors of the script, after which Envoy would hold such bodies without counting them."""
    async with grpc.aio.insecure_channel(str(small_envoy.address(plane))) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary("/no.such.Service/Call")(b"x" * (6 * MIB))  # more than a client's share
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


class Sized(inference_pb2_grpc.InferenceServiceServicer):
    """A native service that answers with the size of the text it got, and notes the size that it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def Generate(self, request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        self.told.append(dict(context.invocation_metadata())["x-infermesh-body-bytes"])
        yield pb.GenerateResponse(delta=pb.Delta(text=str(len(request.text))))


async def test_native_requests_have_the_same_bounds(tmp_path: Path) -> None:
    servicer, server = Sized(), Server(listen="127.0.0.1:0", drain_s=0)  # ours, which answers a call that was cut
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    options = small_options(await server.start(), tmp_path)
    message = pb.GenerateRequest(text="x" * (3 * MIB)).SerializeToString()
    try:
        with EnvoyProcess(replace(options, body_timeout_s=20.0), tmp_path) as envoy:
            async with grpc.aio.insecure_channel(envoy.grpc) as channel:
                waiting = channel.stream_stream(GENERATE)()
                await waiting.write(message)  # but it does not end its request
                error = await until_refused(channel.unary_stream(GENERATE), message)
                await waiting.done_writing()
                answer = pb.GenerateResponse.FromString(await waiting.read())
            assert "[lua]" not in envoy.log()
    finally:
        await server.stop()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "Too many large request bodies are arriving; try again"
    assert answer.delta.text == str(3 * MIB)
    assert set(servicer.told) == {str(len(message) + 5)}  # with the header of gRPC's frame


async def until_refused(call: Any, message: bytes) -> grpc.aio.AioRpcError:
    async with asyncio.timeout(20):
        while True:
            try:
                await call(message).read()
            except grpc.aio.AioRpcError as error:
                return error
