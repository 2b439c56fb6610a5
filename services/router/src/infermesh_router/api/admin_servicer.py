"""Serves the router's AdminService: lists, drains and registers endpoints."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import asyncio
from collections.abc import AsyncIterator, Sequence

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.api.listing import Listing
from infermesh_router.fleet.changes import Changes
from infermesh_router.fleet.drainer import Drainer
from infermesh_router.membership.registration import registered_address
from infermesh_router.membership.registry import Registry
from infermesh_router.siblings.sibling_calls import is_sibling
from infermesh_runtime.rpc.audit import audited
from infermesh_runtime.rpc.context import RpcContext

_DEFAULT_INTERVAL_MS = 500


class AdminServicer(pb_grpc.AdminServiceServicer):
    """AdminService over a fleet."""

    def __init__(
        self,
        listing: Listing,
        *,
        changes: Changes,
        drainer: Drainer,
        registry: Registry,
        instance: str,
        registration_networks: Sequence[str] = (),
    ) -> None:
        """`registration_networks`: in which workers may register, as in 10.0.0.0/8; none: in all.

        `instance`: by which other routers know this one.
        """
        self._instance = instance
        self._listing = listing
        self._changes = changes
        self._drainer = drainer
        self._registry = registry
        self._networks = registration_networks

    async def ListEndpoints(self, request: pb.ListEndpointsRequest, context: RpcContext) -> pb.ListEndpointsResponse:
        """Lists the endpoints and queues once."""
        return self._listing.own() if is_sibling(context) else await self._listing.of_all()

    async def WatchEndpoints(
        self, request: pb.WatchEndpointsRequest, context: RpcContext
    ) -> AsyncIterator[pb.WatchEndpointsResponse]:
        """Lists the endpoints and queues now and after changes."""
        interval_s = (request.min_interval_ms or _DEFAULT_INTERVAL_MS) / 1000
        async for _ in self._changes.follow(lambda: None, interval_s):
            listed = await self._listing.of_all()
            yield pb.WatchEndpointsResponse(endpoints=listed.endpoints, queues=listed.queues)

    async def DrainEndpoint(self, request: pb.DrainEndpointRequest, context: RpcContext) -> pb.DrainEndpointResponse:
        """Drains an endpoint; answers when nothing runs on it."""
        move_after_s = request.move_after_s if request.HasField("move_after_s") else None
        with audited(context, request):
            moved = await self._drainer.drain(request.address, move_after_s=move_after_s, alone=is_sibling(context))
            return pb.DrainEndpointResponse(moved=moved)

    async def ResumeEndpoint(self, request: pb.ResumeEndpointRequest, context: RpcContext) -> pb.ResumeEndpointResponse:
        """Takes an endpoint back into service."""
        with audited(context, request):
            await self._drainer.resume(request.address, alone=is_sibling(context))
        return pb.ResumeEndpointResponse()

    async def RegisterEndpoint(
        self, request: pb.RegisterEndpointRequest, context: RpcContext
    ) -> AsyncIterator[pb.RegisterEndpointResponse]:
        """Answers once with the address; the registration lasts until the caller ends the call."""
        with audited(context, request, lasting=True):
            address = registered_address(request.address, context.peer(), self._networks)
            with self._registry.registered(address):
                yield pb.RegisterEndpointResponse(address=address)
                await asyncio.Event().wait()

    async def WatchRouter(
        self, request: pb.WatchRouterRequest, context: RpcContext
    ) -> AsyncIterator[pb.WatchRouterResponse]:
        """Says which router this is; the call lasts until the caller ends it, or this router stops."""
        yield pb.WatchRouterResponse(instance=self._instance)
        await asyncio.Event().wait()
