"""A scripted router behind a real Envoy: each test says what the router answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from infermesh.admin.v1 import admin_pb2
from infermesh.anthropic.v1 import anthropic_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from infermesh.openai.v1 import openai_pb2, openai_pb2_grpc
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_runtime.rpc.options import SERVER_OPTIONS

Context: TypeAlias = grpc.aio.ServicerContext
ChatHandler = Callable[[HttpBody, Context], AsyncIterator[HttpBody]]
ModelHandler = Callable[[str, Context], Awaitable[HttpBody]]
GenerateHandler = Callable[[inference_pb2.GenerateRequest, Context], AsyncIterator[inference_pb2.GenerateResponse]]
TIMEOUT_S = 3.0


@dataclass
class FakeRouter(openai_pb2_grpc.OpenAIServiceServicer):
    """A real gRPC server whose answers are the test's own functions."""

    chat: ChatHandler | None = None
    model: ModelHandler | None = None
    generate: GenerateHandler | None = None
    seen: list[dict[str, str]] = field(default_factory=list)

    async def CreateChatCompletion(self, request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        assert self.chat is not None
        self.seen.append(dict(context.invocation_metadata()))
        async for message in self.chat(request, context):
            yield message

    async def GetModel(self, request: openai_pb2.GetModelRequest, context: Context) -> HttpBody:
        assert self.model is not None
        return await self.model(request.model, context)


class FakeAnthropic(anthropic_pb2_grpc.AnthropicServiceServicer):
    """Anthropic's service of the same router, which answers messages as it does chats."""

    def __init__(self, router: FakeRouter) -> None:
        self._router = router

    async def CreateMessage(self, request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        async for message in self._router.CreateChatCompletion(request, context):
            yield message


class FakeMesh(mesh_pb2_grpc.MeshServiceServicer):
    """MeshService of the same router."""

    async def GetPage(self, request: mesh_pb2.GetPageRequest, context: Context) -> HttpBody:
        await context.send_initial_metadata((("etag", 'W/"abc"'),))
        return HttpBody(content_type="text/plain", data=b"here\n")

    async def ListEndpoints(
        self, request: mesh_pb2.ListEndpointsRequest, context: Context
    ) -> mesh_pb2.ListEndpointsResponse:
        return mesh_pb2.ListEndpointsResponse(endpoints=[mesh_pb2.Endpoint(address="h:1")])

    async def LoadModel(self, request: admin_pb2.LoadModelRequest, context: Context) -> admin_pb2.LoadModelResponse:
        return admin_pb2.LoadModelResponse(unloaded=[request.model, request.device])

    async def WatchEvents(self, request: mesh_pb2.WatchEventsRequest, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="text/event-stream", data=b"event: snapshot\n\n")
        await asyncio.Event().wait()


class FakeInference(inference_pb2_grpc.InferenceServiceServicer):
    """The native service of the same router."""

    def __init__(self, router: FakeRouter) -> None:
        self._router = router

    async def Generate(
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        assert self._router.generate is not None
        async for message in self._router.generate(request, context):
            yield message

    async def WatchHealth(
        self, request: inference_pb2.WatchHealthRequest, context: Context
    ) -> AsyncIterator[inference_pb2.WatchHealthResponse]:
        yield inference_pb2.WatchHealthResponse()
        await asyncio.Event().wait()


def envoy_options(router_port: int, folder: Path) -> EnvoyOptions:
    free = Address("127.0.0.1", 0)
    return EnvoyOptions(
        http=free,
        grpc=free,
        router=Address("127.0.0.1", router_port),
        timeout_s=TIMEOUT_S,
        access_log=str(folder / "access.log"),
        cors_origins=("http://page",),
        allowed_hosts=("mesh.test",),
    )


def new_server(router: FakeRouter) -> grpc.aio.Server:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    openai_pb2_grpc.add_OpenAIServiceServicer_to_server(router, server)
    anthropic_pb2_grpc.add_AnthropicServiceServicer_to_server(FakeAnthropic(router), server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(FakeInference(router), server)
    mesh_pb2_grpc.add_MeshServiceServicer_to_server(FakeMesh(), server)
    return server


@asynccontextmanager
async def serve(router: FakeRouter, port: int = 0) -> AsyncIterator[int]:
    """Runs the router on `port`, or on any free port; yields the port."""
    server = new_server(router)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield bound
    await server.stop(None)


StartRouter = Callable[[FakeRouter, int], AbstractAsyncContextManager[int]]


@pytest.fixture(scope="session")
def start_router() -> StartRouter:
    """`serve`, for tests that start and stop routers of their own."""
    return serve


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def serving() -> AsyncIterator[tuple[FakeRouter, int]]:
    router = FakeRouter()
    async with serve(router) as port:
        yield router, port


@pytest.fixture(scope="session")
def envoy(serving: tuple[FakeRouter, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProcess]:
    folder = tmp_path_factory.mktemp("envoy")
    with EnvoyProcess(envoy_options(serving[1], folder), folder) as running:
        yield running
        assert "[lua]" not in running.log()


@pytest.fixture
def router(serving: tuple[FakeRouter, int]) -> FakeRouter:
    fake = serving[0]
    fake.chat = fake.model = fake.generate = None
    fake.seen.clear()
    return fake


@pytest_asyncio.fixture(loop_scope="session")
async def http(envoy: EnvoyProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=envoy.http, timeout=20) as client:
        yield client
