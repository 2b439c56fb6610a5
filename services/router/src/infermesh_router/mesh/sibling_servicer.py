"""Answers the other routers of the mesh, on the admin plane: what this router alone knows of requests."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.mesh.events import told_viewer_of
from infermesh_router.mesh.feed import Feed
from infermesh_router.mesh.receipts import MeshReceipts
from infermesh_router.siblings.sibling_calls import told_viewer
from infermesh_runtime.rpc.context import RpcContext


class SiblingServicer:
    """The part of MeshService that routers side by side ask each other for."""

    def __init__(self, receipts: MeshReceipts, feed: Feed) -> None:
        """`receipts`: of this router alone."""
        self._receipts = receipts
        self._feed = feed

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: RpcContext) -> pb.Receipt:
        """The receipt of a request."""
        return await self._receipts.find(request.request_id, told_viewer(context)["client"])

    async def ListReceipts(self, request: pb.ListReceiptsRequest, context: RpcContext) -> pb.ListReceiptsResponse:
        """The newest receipts."""
        client = told_viewer(context)["client"]
        return pb.ListReceiptsResponse(receipts=await self._receipts.newest(request.limit, client))

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: RpcContext) -> AsyncIterator[HttpBody]:
        """Sends this router's events until the other one leaves."""
        told = told_viewer(context)
        viewer, after = told_viewer_of(told), told.get("after")
        async with aclosing(self._feed.follow_events(viewer, kept=told["kept"], after=after)) as events:
            async for block in events:
                yield HttpBody(data=block)


def sibling_handlers(servicer: SiblingServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The methods of MeshService on the admin plane."""
    return {
        "GetReceipt": grpc.unary_unary_rpc_method_handler(
            servicer.GetReceipt, pb.GetReceiptRequest.FromString, pb.Receipt.SerializeToString
        ),
        "ListReceipts": grpc.unary_unary_rpc_method_handler(
            servicer.ListReceipts, pb.ListReceiptsRequest.FromString, pb.ListReceiptsResponse.SerializeToString
        ),
        "WatchEvents": grpc.unary_stream_rpc_method_handler(
            servicer.WatchEvents, pb.WatchEventsRequest.FromString, HttpBody.SerializeToString
        ),
    }
