"""A mesh for unmodified clients whose worker is a script: the real Envoy, a router in this process, and its worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_router.testing.router import ScriptedWorker, delta, finished, running_router, started
from infermesh_runtime.rpc.context import RpcContext


@asynccontextmanager
async def behind_envoy(worker: ScriptedWorker, folder: Path, **settings: Any) -> AsyncIterator[str]:
    """Starts the worker and a mesh around it; gives the URL. Settings are the router's, by field name."""
    await worker.start()
    try:
        async with running_router(worker.address, **settings) as router:
            free = Address("127.0.0.1", 0)
            options = EnvoyOptions(http=free, grpc=free, router=Address.parse(router.address))
            with EnvoyProcess(options, folder) as envoy:
                yield envoy.http
    finally:
        await worker.stop()


class Counting:
    """A script that says "Hello world", and counts the requests that reach the worker and those that run at once."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0
        self.most = 0
        """Most that ran at once."""
        self.failures: list[Exception] = []
        """What the next requests end with, one each, before they begin."""
        self.late_failure: Exception | None = None
        """What requests end with after their first token."""
        self.may_go_on = asyncio.Event()
        """While it is not set, requests stop after their first token."""
        self.may_go_on.set()
        self.runs = asyncio.Event()
        """Set while a request runs."""
        self._idle = asyncio.Event()

    async def __call__(self, request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self._idle.clear()
        self.runs.set()
        try:
            if self.failures:
                raise self.failures.pop(0)
            yield started(request.model)
            for choice in range(request.n or 1):
                yield delta("Hello", choice)
            if self.late_failure is not None:
                raise self.late_failure
            await self.may_go_on.wait()
            for choice in range(request.n or 1):
                yield delta(" world", choice)
                yield finished(choice)
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()
                self.runs.clear()

    async def idle(self) -> None:
        """Returns once nothing runs. Raises TimeoutError after 2 s: what a client has left ends at once."""
        await asyncio.wait_for(self._idle.wait(), 2)
