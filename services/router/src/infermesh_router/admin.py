"""Owns the router's AdminService: what it knows of its endpoints, for people. Knows no policy."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from collections.abc import AsyncIterator

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.endpoint import Endpoint
from infermesh_router.fleet import Fleet
from infermesh_runtime.rpc_context import RpcContext

_DEFAULT_INTERVAL_MS = 500


class AdminServicer(pb_grpc.AdminServiceServicer):
    """AdminService over a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def ListEndpoints(
        self,
        request: pb.ListEndpointsRequest,
        context: RpcContext,
    ) -> pb.ListEndpointsResponse:
        """Lists them once."""
        return pb.ListEndpointsResponse(endpoints=self._list())

    async def WatchEndpoints(
        self,
        request: pb.WatchEndpointsRequest,
        context: RpcContext,
    ) -> AsyncIterator[pb.WatchEndpointsResponse]:
        """Lists them now and on every change."""
        interval_s = (request.min_interval_ms or _DEFAULT_INTERVAL_MS) / 1000
        async for endpoints in self._fleet.changes.follow(self._list, interval_s):
            yield pb.WatchEndpointsResponse(endpoints=endpoints)

    def _list(self) -> list[pb.Endpoint]:
        return [_to_proto(endpoint) for endpoint in self._fleet.endpoints]


def _to_proto(endpoint: Endpoint) -> pb.Endpoint:
    return pb.Endpoint(
        address=endpoint.address,
        connected=endpoint.connected,
        report=endpoint.last_report,
        in_flight=endpoint.in_flight,
        seconds_to_drain=endpoint.snapshot.seconds_to_drain,
        last_error=endpoint.last_error,
    )
