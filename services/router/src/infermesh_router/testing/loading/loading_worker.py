"""A scripted worker that loads and unloads models, for tests."""

# ruff: noqa: ARG002 - the contract fixes the signatures of RPCs

import asyncio
from dataclasses import dataclass, field

import grpc

from infermesh.admin.v1 import admin_pb2
from infermesh.admin.v1 import admin_pb2_grpc as admin_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import ScriptedWorker
from infermesh_runtime.rpc.context import RpcContext


@dataclass
class LoadingWorker(ScriptedWorker, admin_grpc.EndpointServiceServicer):
    """A worker that loads what it is told to while `may_load` is set. Each of its models takes one byte."""

    models: tuple[str, ...] = ()
    available: tuple[str, ...] = ("m", "n")
    has_chat_template: bool = True
    """Of every available model."""
    memory_bytes: int = 1
    refusal: Exception | None = None
    """Raised by every load and unload, if set."""
    retention: dict[str, admin_pb2.LoadModelRequest] = field(default_factory=dict)
    """Loaded model → how long it stays."""
    home: tuple[str, ...] = ()
    """Models that it reports as its own, which it loads at its start."""
    loads: list[admin_pb2.LoadModelRequest] = field(default_factory=list)
    unloads: list[admin_pb2.UnloadModelRequest] = field(default_factory=list)
    may_load: asyncio.Event = field(default_factory=asyncio.Event)
    shown: dict[str, pb.EndpointState] = field(default_factory=dict)
    """Model → a state that it reports besides those of `models`."""
    fraction: float | None = None
    """How far its loads are, with 3 s left, as it reports; None: it reports nothing of that."""
    started_at_s: int = 1
    """When it was started, in seconds since the epoch."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has been told to load."""

    def __post_init__(self) -> None:
        self.may_load.set()

    def add_services(self, server: grpc.aio.Server) -> None:
        """Adds EndpointService."""
        admin_grpc.add_EndpointServiceServicer_to_server(self, server)

    async def LoadModel(self, request: admin_pb2.LoadModelRequest, context: RpcContext) -> admin_pb2.LoadModelResponse:
        """Loads a model, unloading the oldest one if there is no memory left."""
        self.loads.append(request)
        self.asked.set()
        self.show(request.model, pb.ENDPOINT_STATE_LOADING)
        await self.may_load.wait()
        if self.refusal is not None:
            self.hide(request.model)
            raise self.refusal
        loaded = request.model in self.models
        unloaded = () if loaded or self.memory_bytes > len(self.models) else self.models[:1]
        self.retention[request.model] = request
        if request.model not in self.models:
            self.models = (*self.models[len(unloaded) :], request.model)
        self.hide(request.model)
        return admin_pb2.LoadModelResponse(unloaded=unloaded)

    async def UnloadModel(
        self, request: admin_pb2.UnloadModelRequest, context: RpcContext
    ) -> admin_pb2.UnloadModelResponse:
        """Unloads a model."""
        self.unloads.append(request)
        if self.refusal is not None:
            raise self.refusal
        self.models = tuple(name for name in self.models if name != request.model)
        self.tell()
        return admin_pb2.UnloadModelResponse()

    async def restart(self) -> None:
        """Cuts every connection, forgets its models and starts anew, on its address."""
        await self.stop()
        self.started_at_s += 1
        self.models, self.shown, self.retention = (), {}, {}
        self.loads.clear()
        self.asked.clear()
        await self.start()

    def show(self, model: str, state: pb.EndpointState) -> None:
        """Reports the model in that state."""
        self.shown[model] = state
        self.tell()

    def hide(self, model: str) -> None:
        """Stops reporting the model in the state that `show` set."""
        self.shown.pop(model, None)
        self.tell()

    def _report(self) -> pb.HealthReport:
        report = super()._report()
        left_s = None if self.fraction is None else 3.0
        report.models.extend(
            pb.ModelStatus(name=name, state=state, load_fraction=self.fraction, load_left_s=left_s)
            for name, state in self.shown.items()
        )
        for model in report.models:
            model.memory_bytes = 1
            kept = self.retention.get(model.name, admin_pb2.LoadModelRequest())
            model.pinned, model.keep_alive_s, model.home = kept.pinned, kept.keep_alive_s, model.name in self.home
        report.started_at.seconds = self.started_at_s
        report.device.memory_total_bytes = self.memory_bytes
        report.device.memory_free_bytes = self.memory_bytes - len(self.models)
        report.available.extend(
            pb.AvailableModel(name=name, memory_bytes=1, has_chat_template=self.has_chat_template)
            for name in self.available
        )
        return report
