"""Real in-process servers for the tests of this package."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime.rpc.interceptor import CompletedRpc
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.rpc.server import Server


@dataclass
class Running:
    server: Server
    channel: grpc.aio.Channel
    rpcs: list[CompletedRpc] = field(default_factory=list)

    @property
    def stub(self) -> Any:
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


Serve = Callable[[object], contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture
def serve() -> Serve:
    """Serves an InferenceService servicer; yields the server, a channel to it and what its observers saw."""

    @contextlib.asynccontextmanager
    async def _serve(servicer: object) -> AsyncIterator[Running]:
        rpcs: list[CompletedRpc] = []
        server = Server(listen="127.0.0.1:0", drain_s=0.2, observers=(rpcs.append,))
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        port = await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
                yield Running(server, channel, rpcs)
        finally:
            await server.stop()

    return _serve
