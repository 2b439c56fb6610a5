"""Runs a router and scripted workers inside a test's process, on real ports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.anthropic.v1 import anthropic_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh.mesh.v1 import mesh_pb2_grpc
from infermesh.openai.v1 import openai_pb2_grpc
from infermesh_router.app import build_server
from infermesh_router.config.settings import RouterSettings
from infermesh_router.membership.resolver import Resolve, resolve_with_dns
from infermesh_router.testing.framed import FrameServer
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import Unimplemented
from infermesh_runtime.rpc.access import identity_of
from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.interceptor import RpcInterceptor
from infermesh_runtime.rpc.options import SERVER_OPTIONS
from infermesh_runtime.tensors import from_numpy

# ruff: noqa: ARG002 - the contract fixes the signatures of RPCs

Script = Callable[[pb.GenerateRequest, RpcContext], AsyncIterator[pb.GenerateResponse]]
StartWorker = Callable[..., Awaitable["ScriptedWorker"]]
"""Starts a worker with the fields given, until the test ends: the fixture `start_worker`."""
StartRouter = Callable[..., Awaitable["RunningRouter"]]
"""Starts a router in front of workers or addresses, until the test ends: the fixture `start_router`."""
WAIT_S = 20.0


def started(model: str = "m", seed: int = 0) -> pb.GenerateResponse:
    """The first event of a stream."""
    return pb.GenerateResponse(started=pb.Started(model=model, device=pb.DEVICE_KIND_CPU, prompt_tokens=3, seed=seed))


def delta(text: str, choice: int = 0, logprobs: Sequence[pb.TokenLogprob] = ()) -> pb.GenerateResponse:
    """The output of one token."""
    return pb.GenerateResponse(delta=pb.Delta(choice=choice, text=text, token_ids=[1], logprobs=logprobs))


def finished(choice: int = 0, reason: pb.FinishReason = pb.FINISH_REASON_STOP) -> pb.GenerateResponse:
    """The end of a choice of two tokens. Choice 0 also counts the prompt: three tokens, one of them cached."""
    prompt = choice == 0
    usage = pb.Usage(prompt_tokens=3 * prompt, completion_tokens=2, cached_tokens=1 * prompt)
    return pb.GenerateResponse(finished=pb.Finished(choice=choice, finish_reason=reason, usage=usage))


async def say_hello(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Says "Hello world" in two deltas for each choice."""
    yield started(request.model, request.seed)
    for choice in range(request.n or 1):
        yield delta("Hello", choice)
        yield delta(" world", choice)
        yield finished(choice)


@dataclass
class ScriptedWorker(pb_grpc.InferenceServiceServicer):
    """A worker on a real port that answers Generate as `script` says and records its requests."""

    script: Script = say_hello
    models: tuple[str, ...] = ("m",)
    kinds: Mapping[str, pb.ModelKind] = field(default_factory=dict)
    """What models do, by name; others generate text."""
    sees: Mapping[str, bool] = field(default_factory=dict)
    """Whether models take images, by name; of others it is not known."""
    device: pb.DeviceKind = pb.DEVICE_KIND_CPU
    state: pb.EndpointState = pb.ENDPOINT_STATE_READY
    load: pb.Load = field(default_factory=pb.Load)
    frames: bool = True
    """Whether it offers GenerateMany."""
    takes_more: bool = True
    """Whether it takes several commands in a message there."""
    framed: int = 0
    """Streams of frames that it has served."""
    address: str = ""
    requests: list[pb.GenerateRequest] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    remaining_s: list[float | None] = field(default_factory=list)
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a Generate is cancelled or runs out of time."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Starts to listen, on its earlier address if it was started before."""
        self._server = grpc.aio.server(interceptors=[RpcInterceptor(())], options=SERVER_OPTIONS)
        pb_grpc.add_InferenceServiceServicer_to_server(self, self._server)
        self.add_services(self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    def add_services(self, server: grpc.aio.Server) -> None:
        """A hook for subclasses that serve more."""

    async def stop(self) -> None:
        """Cuts every connection."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    def tell(self) -> None:
        """Sends a new report."""
        self._changed.set()

    def become(self, state: pb.EndpointState) -> None:
        """Changes its state and reports it."""
        self.state = state
        self._changed.set()

    async def WatchHealth(
        self,
        request: pb.WatchHealthRequest,
        context: RpcContext,
    ) -> AsyncIterator[pb.WatchHealthResponse]:
        """Reports now and after changes."""
        while True:
            self._changed.clear()
            yield pb.WatchHealthResponse(report=self._report())
            await self._changed.wait()

    async def Generate(self, request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        """Follows the script."""
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining_s.append(context.time_remaining())
        try:
            async for event in self.script(request, context):
                yield event
        except asyncio.CancelledError:
            self.interrupted.set()
            raise

    async def GenerateMany(self, requests: AsyncIterator[pb.GenerateManyRequest], context: RpcContext) -> None:
        """Follows the script for each call, if it offers frames."""
        if not self.frames:
            raise Unimplemented("This worker offers no frames.")
        self.framed += 1
        await FrameServer(self.Generate, context, takes_more=self.takes_more).serve(requests)

    async def Embed(self, request: pb.EmbedRequest, context: RpcContext) -> pb.EmbedResponse:
        """Answers with the number of texts as prompt tokens."""
        vectors = from_numpy(np.ones((len(request.texts), 2), np.float32))
        return pb.EmbedResponse(
            model=request.model, embeddings=vectors, usage=pb.Usage(prompt_tokens=len(request.texts))
        )

    def _report(self) -> pb.HealthReport:
        models = [pb.ModelStatus(name=name, state=self.state, context_length=2048) for name in self.models]
        for model in models:
            model.kind = self.kinds.get(model.name, pb.MODEL_KIND_UNSPECIFIED)
        available = [pb.AvailableModel(name=name, takes_images=sees) for name, sees in self.sees.items()]
        return pb.HealthReport(
            state=self.state,
            device=pb.Device(kind=self.device),
            models=models,
            load=self.load,
            available=available,
        )


@dataclass(frozen=True, slots=True)
class RunningRouter:
    """A router under test."""

    address: str
    channel: grpc.aio.Channel
    admin_address: str = ""
    admin_channel: grpc.aio.Channel = None

    @property
    def admin(self) -> admin_pb2_grpc.AdminServiceStub:
        """Its AdminService."""
        return admin_pb2_grpc.AdminServiceStub(self.admin_channel)

    @property
    def endpoint_service(self) -> admin_pb2_grpc.EndpointServiceStub:
        """Its EndpointService."""
        return admin_pb2_grpc.EndpointServiceStub(self.admin_channel)

    @property
    def inference(self) -> pb_grpc.InferenceServiceStub:
        """Its InferenceService."""
        return pb_grpc.InferenceServiceStub(self.channel)

    @property
    def anthropic(self) -> anthropic_pb2_grpc.AnthropicServiceStub:
        """Its AnthropicService."""
        return anthropic_pb2_grpc.AnthropicServiceStub(self.channel)

    @property
    def mesh(self) -> mesh_pb2_grpc.MeshServiceStub:
        """Its MeshService."""
        return mesh_pb2_grpc.MeshServiceStub(self.channel)

    @property
    def openai(self) -> openai_pb2_grpc.OpenAIServiceStub:
        """Its OpenAIService."""
        return openai_pb2_grpc.OpenAIServiceStub(self.channel)

    async def endpoints_when(self, enough: Callable[[Sequence[admin_pb2.Endpoint]], bool]) -> list[admin_pb2.Endpoint]:
        """Its endpoints, once `enough` accepts them. Raises TimeoutError."""
        call = self.admin.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=1))
        try:
            async with asyncio.timeout(WAIT_S):
                async for listed in call:
                    if enough(listed.endpoints):
                        return list(listed.endpoints)
        finally:
            call.cancel()
        raise AssertionError("the stream of endpoints ended")


@asynccontextmanager
async def running_router(
    *workers: str,
    resolve: Resolve = resolve_with_dns,
    connected: bool = True,
    tasks: TaskSupervisor | None = None,
    **settings: object,
) -> AsyncIterator[RunningRouter]:
    """Runs a router in this process, in front of `workers` (host:port), with settings by field name.

    With `connected`, the block begins once the router has a health report from each worker.
    """
    with TemporaryDirectory(prefix="infermesh-") as folder:  # its path is short enough for a socket
        options: dict[str, Any] = {"drain_s": 5.0, "admin_listen": f"unix:{folder}/admin.sock", **settings}
        configured = RouterSettings(workers=workers, **options)
        server = build_server(configured, resolve=resolve, tasks=tasks)
        port = await server.start()
        admin_address, identity = server.listeners[-1].address, identity_of(configured)
        async with (
            open_aio_channel(f"127.0.0.1:{port}", identity, ()) as channel,
            open_aio_channel(admin_address, identity, ()) as admin_channel,
        ):
            router = RunningRouter(f"127.0.0.1:{port}", channel, admin_address, admin_channel)
            try:
                if connected:
                    await router.endpoints_when(
                        lambda listed: len(listed) >= len(workers) and all(endpoint.connected for endpoint in listed)
                    )
                yield router
            finally:
                await server.stop()
