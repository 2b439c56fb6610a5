"""MeshService: endpoints, queues, events and receipts of the mesh, and the files of its page."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import cache

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.mesh.events import MeshEvents
from infermesh_router.mesh.manager import Manager
from infermesh_router.mesh.owner import Owner
from infermesh_router.mesh.receipts import MeshReceipts
from infermesh_router.mesh.view import MeshView
from infermesh_router.mesh.viewer import Viewer, check_manages, identify
from infermesh_router.page.page_files import PageFiles
from infermesh_router.requests.query_string import read_query
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext

SERVICE = pb.DESCRIPTOR.services_by_name["MeshService"].full_name
EVENTS, LAST_ID = "text/event-stream", "last-event-id"
_STREAM_HEADERS = (("cache-control", "no-store"), ("x-accel-buffering", "no"))
_DEFAULT_LIMIT, _MOST_LIMIT = 20, 200
_SIGN_OF_LIFE = HttpBody(content_type="text/plain; charset=utf-8", data=b"infermesh is running\n")


class MeshServicer:
    """MeshService over one router's fleet."""

    def __init__(
        self,
        view: MeshView,
        events: MeshEvents,
        receipts: MeshReceipts,
        manager: Manager,
        *,
        access: Access,
        owner: Owner,
        read_page: Callable[[], PageFiles] = PageFiles,
    ) -> None:
        self._view = view
        self._events = events
        self._receipts = receipts
        self._manager = manager
        self._access = access
        self._owner = owner
        self._page = cache(read_page)

    async def ListEndpoints(self, request: pb.ListEndpointsRequest, context: RpcContext) -> pb.ListEndpointsResponse:
        """Lists the endpoints."""
        viewer = self._identify(context)
        return pb.ListEndpointsResponse(endpoints=await self._view.endpoints(viewer), may_manage=viewer.manages)

    async def ListQueues(self, request: pb.ListQueuesRequest, context: RpcContext) -> pb.ListQueuesResponse:
        """Lists the queues."""
        return pb.ListQueuesResponse(queues=await self._view.queues(self._identify(context)))

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: RpcContext) -> None:
        """Sends events until the client leaves, or its rights change; it connects again then, with the new ones."""
        viewer = self._identify(context)
        async with aclosing(self._events.follow(viewer, _last_id(context))) as events:
            first = await anext(events)
            await context.send_initial_metadata(_STREAM_HEADERS)
            await context.write(HttpBody(content_type=EVENTS, data=first))
            async for block in events:
                if self._identify(context) != viewer:  # raises Unauthenticated for a key that is no longer in force
                    return
                await context.write(HttpBody(content_type=EVENTS, data=block))

    async def ListReceipts(self, request: pb.ListReceiptsRequest, context: RpcContext) -> pb.ListReceiptsResponse:
        """Lists the newest receipts."""
        viewer = self._identify(context)
        limit = _limit(request.limit, read_query(context).get("limit", ""))
        return pb.ListReceiptsResponse(receipts=await self._receipts.newest(limit, viewer.client))

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: RpcContext) -> pb.Receipt:
        """The receipt of a request."""
        viewer = self._identify(context)
        return await self._receipts.find(request.request_id, viewer.client)

    async def DrainEndpoint(
        self, request: admin.DrainEndpointRequest, context: RpcContext
    ) -> admin.DrainEndpointResponse:
        """Drains an endpoint."""
        return await self._manager.drain(request, context, self._manages(context))

    async def ResumeEndpoint(
        self, request: admin.ResumeEndpointRequest, context: RpcContext
    ) -> admin.ResumeEndpointResponse:
        """Takes an endpoint back into service."""
        return await self._manager.resume(request, context, self._manages(context))

    async def LoadModel(self, request: admin.LoadModelRequest, context: RpcContext) -> admin.LoadModelResponse:
        """Loads a model."""
        return await self._manager.load(request, context, self._manages(context))

    async def UnloadModel(self, request: admin.UnloadModelRequest, context: RpcContext) -> admin.UnloadModelResponse:
        """Unloads a model."""
        return await self._manager.unload(request, context, self._manages(context))

    async def StartImport(self, request: pb.StartImportRequest, context: RpcContext) -> pb.Import:
        """Begins to import a model."""
        return await self._manager.start_import(request, context, self._manages(context))

    async def ListImports(self, request: pb.ListImportsRequest, context: RpcContext) -> pb.ListImportsResponse:
        """Lists the imports."""
        self._manages(context)
        return self._manager.imports()

    async def CancelImport(self, request: pb.CancelImportRequest, context: RpcContext) -> pb.Import:
        """Stops an import."""
        return await self._manager.cancel_import(request, context, self._manages(context))

    async def RemoveModel(self, request: pb.RemoveModelRequest, context: RpcContext) -> pb.RemoveModelResponse:
        """Removes a model from disks."""
        return await self._manager.remove(request, context, self._manages(context))

    async def GetPage(self, request: pb.GetPageRequest, context: RpcContext) -> HttpBody:
        """A file of the page; for `/`, a sign of life to clients that do not ask for HTML."""
        asked = {name: str(value) for name, value in context.invocation_metadata()}
        if not request.path and "text/html" not in asked.get("accept", ""):
            return _SIGN_OF_LIFE
        page = await asyncio.to_thread(self._page)
        file, forever = page.find(request.path)
        data, headers = file.answer(takes_gzip="gzip" in asked.get("accept-encoding", ""), forever=forever)
        await context.send_initial_metadata(headers)
        return HttpBody(content_type=file.content_type, data=data)

    def _identify(self, context: RpcContext) -> Viewer:
        return identify(self._access, self._owner, context)

    def _manages(self, context: RpcContext) -> str:
        """The name of a caller that may manage the mesh. Raises PermissionDenied."""
        viewer = self._identify(context)
        check_manages(viewer)
        return "owner" if viewer.key is None else f"key {viewer.key.name}"


def _last_id(context: RpcContext) -> str:
    """The id of the last event that the caller had, as browsers tell it when they connect again."""
    return next((str(value) for name, value in context.invocation_metadata() if name == LAST_ID), "")


def _limit(asked: int, queried: str) -> int:
    if queried:
        asked = int(queried) if queried.isdecimal() and len(queried) < 10 else -1
        if not 1 <= asked <= _MOST_LIMIT:
            problem = f"must be a whole number from 1 to {_MOST_LIMIT}"
            raise InvalidArgument(f"limit: {problem}", fields={"limit": problem})
    return min(asked or _DEFAULT_LIMIT, _MOST_LIMIT)


def mesh_handlers(servicer: MeshServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods."""
    unary = {
        "ListEndpoints": (servicer.ListEndpoints, pb.ListEndpointsRequest, pb.ListEndpointsResponse),
        "ListQueues": (servicer.ListQueues, pb.ListQueuesRequest, pb.ListQueuesResponse),
        "ListReceipts": (servicer.ListReceipts, pb.ListReceiptsRequest, pb.ListReceiptsResponse),
        "GetReceipt": (servicer.GetReceipt, pb.GetReceiptRequest, pb.Receipt),
        "DrainEndpoint": (servicer.DrainEndpoint, admin.DrainEndpointRequest, admin.DrainEndpointResponse),
        "ResumeEndpoint": (servicer.ResumeEndpoint, admin.ResumeEndpointRequest, admin.ResumeEndpointResponse),
        "LoadModel": (servicer.LoadModel, admin.LoadModelRequest, admin.LoadModelResponse),
        "UnloadModel": (servicer.UnloadModel, admin.UnloadModelRequest, admin.UnloadModelResponse),
        "StartImport": (servicer.StartImport, pb.StartImportRequest, pb.Import),
        "ListImports": (servicer.ListImports, pb.ListImportsRequest, pb.ListImportsResponse),
        "CancelImport": (servicer.CancelImport, pb.CancelImportRequest, pb.Import),
        "RemoveModel": (servicer.RemoveModel, pb.RemoveModelRequest, pb.RemoveModelResponse),
        "GetPage": (servicer.GetPage, pb.GetPageRequest, HttpBody),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)
        for name, (method, request, response) in unary.items()
    }
    handlers["WatchEvents"] = grpc.unary_stream_rpc_method_handler(
        servicer.WatchEvents, pb.WatchEventsRequest.FromString, HttpBody.SerializeToString
    )
    return handlers
