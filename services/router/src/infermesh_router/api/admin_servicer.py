"""Owns the router's AdminService: its endpoints for people and for those that want to be one. Knows no policy."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import asyncio
from collections.abc import AsyncIterator

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.api.listing import Listing
from infermesh_router.fleet.changes import Changes
from infermesh_router.fleet.drain import Drains
from infermesh_router.membership.registration import registered_address
from infermesh_router.membership.registry import Registry
from infermesh_runtime.rpc.context import RpcContext

_DEFAULT_INTERVAL_MS = 500


class AdminServicer(pb_grpc.AdminServiceServicer):
    """AdminService over a fleet."""

    def __init__(self, listing: Listing, *, changes: Changes, drains: Drains, registry: Registry) -> None:
        self._listing = listing
        self._changes = changes
        self._drains = drains
        self._registry = registry

    async def ListEndpoints(self, request: pb.ListEndpointsRequest, context: RpcContext) -> pb.ListEndpointsResponse:
        """Lists them once."""
        return pb.ListEndpointsResponse(endpoints=self._listing.endpoints(), queues=self._listing.queues())

    async def WatchEndpoints(
        self, request: pb.WatchEndpointsRequest, context: RpcContext
    ) -> AsyncIterator[pb.WatchEndpointsResponse]:
        """Lists them now and on every change."""
        interval_s = (request.min_interval_ms or _DEFAULT_INTERVAL_MS) / 1000
        async for response in self._changes.follow(self._watched, interval_s):
            yield response

    async def DrainEndpoint(self, request: pb.DrainEndpointRequest, context: RpcContext) -> pb.DrainEndpointResponse:
        """Answers when nothing runs on it."""
        move_after_s = request.move_after_s if request.HasField("move_after_s") else None
        return pb.DrainEndpointResponse(moved=await self._drains.drain(request.address, move_after_s=move_after_s))

    async def ResumeEndpoint(self, request: pb.ResumeEndpointRequest, context: RpcContext) -> pb.ResumeEndpointResponse:
        """Takes it into service again."""
        await self._drains.resume(request.address)
        return pb.ResumeEndpointResponse()

    async def RegisterEndpoint(
        self, request: pb.RegisterEndpointRequest, context: RpcContext
    ) -> AsyncIterator[pb.RegisterEndpointResponse]:
        """Answers once, and lasts until the caller leaves."""
        address = registered_address(request.address, context.peer())
        with self._registry.registered(address):
            yield pb.RegisterEndpointResponse(address=address)
            await asyncio.Event().wait()

    def _watched(self) -> pb.WatchEndpointsResponse:
        return pb.WatchEndpointsResponse(endpoints=self._listing.endpoints(), queues=self._listing.queues())
