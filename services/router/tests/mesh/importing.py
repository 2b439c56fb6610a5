"""Helpers of tests that import and remove models through MeshService."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.testing.keyed import refusal
from infermesh_router.testing.router import WAIT_S, RunningRouter
from infermesh_runtime.errors import (
    InfermeshError,
)

SECRET = "owner-" * 8
OWNER = (("x-infermesh-manage-key", SECRET),)
SOURCE = "hf:org/model"
StartFolderWorker = Callable[..., Any]


async def begin(router: RunningRouter, name: str = "new", **fields: Any) -> pb.Import:
    request = pb.StartImportRequest(source=fields.pop("source", SOURCE), name=name, **fields)
    begun: pb.Import = await router.mesh.StartImport(request, metadata=OWNER)
    return begun


async def refused(router: RunningRouter, name: str = "new", **fields: Any) -> InfermeshError:
    request = pb.StartImportRequest(source=fields.pop("source", SOURCE), name=name, **fields)
    error, _ = await refusal(router.mesh.StartImport(request, metadata=OWNER))
    return error


async def listed(router: RunningRouter) -> list[pb.Import]:
    answer = await router.mesh.ListImports(pb.ListImportsRequest(), metadata=OWNER)
    return list(answer.imports)


async def snapshots(router: RunningRouter, metadata: Any = OWNER) -> AsyncIterator[dict[str, Any]]:
    """The snapshots of the events."""
    events = router.mesh.WatchEvents(pb.WatchEventsRequest(), metadata=metadata)
    try:
        while True:
            block = (await events.read()).data.decode()
            for event in block.split("\n\n"):
                if event.startswith("event: snapshot"):
                    yield json.loads(event.partition("data: ")[2])
    finally:
        events.cancel()


async def seen(router: RunningRouter, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The newest import, once a snapshot shows one that fits."""
    async with asyncio.timeout(WAIT_S):
        async for snapshot in snapshots(router):
            if snapshot["imports"] and fits(snapshot["imports"][0]):
                found: dict[str, Any] = snapshot["imports"][0]
                return found
    raise AssertionError


async def remove(router: RunningRouter, model: str, endpoint: str = "") -> list[str]:
    answer = await router.mesh.RemoveModel(pb.RemoveModelRequest(model=model, endpoint=endpoint), metadata=OWNER)
    return list(answer.endpoints)
