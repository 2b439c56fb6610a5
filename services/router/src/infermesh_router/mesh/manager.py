"""Carries out what those who may manage the mesh ask for, as AdminService and EndpointService do for operators."""

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.mesh.v1 import mesh_pb2 as mesh
from infermesh_router.fleet.drainer import Drainer
from infermesh_router.mesh.imports.models_folders import ModelsFolders
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_runtime.rpc.audit import audited
from infermesh_runtime.rpc.context import RpcContext


class Manager:
    """Drains, resumes, loads, unloads, imports and removes. `who` names the caller, for the audit log."""

    def __init__(self, drainer: Drainer, commands: ModelCommands, folders: ModelsFolders) -> None:
        self._drainer = drainer
        self._commands = commands
        self._folders = folders

    async def drain(self, request: pb.DrainEndpointRequest, context: RpcContext, who: str) -> pb.DrainEndpointResponse:
        """Drains an endpoint; answers when nothing runs on it."""
        move_after_s = request.move_after_s if request.HasField("move_after_s") else None
        with audited(context, request, who=who):
            return pb.DrainEndpointResponse(moved=await self._drainer.drain(request.address, move_after_s=move_after_s))

    async def resume(
        self, request: pb.ResumeEndpointRequest, context: RpcContext, who: str
    ) -> pb.ResumeEndpointResponse:
        """Takes an endpoint back into service."""
        with audited(context, request, who=who):
            await self._drainer.resume(request.address)
        return pb.ResumeEndpointResponse()

    async def load(self, request: pb.LoadModelRequest, context: RpcContext, who: str) -> pb.LoadModelResponse:
        """Loads a model; answers when it is ready on an endpoint."""
        with audited(context, request, who=who):
            return pb.LoadModelResponse(unloaded=await self._commands.load(request))

    async def unload(self, request: pb.UnloadModelRequest, context: RpcContext, who: str) -> pb.UnloadModelResponse:
        """Unloads a model; answers when no endpoint has it."""
        with audited(context, request, who=who):
            await self._commands.unload(request)
        return pb.UnloadModelResponse()

    async def start_import(self, request: mesh.StartImportRequest, context: RpcContext, who: str) -> mesh.Import:
        """Begins to import a model."""
        with audited(context, request, who=who):
            return await self._folders.start(request)

    def imports(self) -> mesh.ListImportsResponse:
        """The imports."""
        return mesh.ListImportsResponse(imports=self._folders.imports())

    async def cancel_import(self, request: mesh.CancelImportRequest, context: RpcContext, who: str) -> mesh.Import:
        """Stops an import; answers when nothing of it is left."""
        with audited(context, request, who=who):
            return await self._folders.cancel(request.import_id)

    async def remove(self, request: mesh.RemoveModelRequest, context: RpcContext, who: str) -> mesh.RemoveModelResponse:
        """Removes a model from disks."""
        with audited(context, request, who=who):
            return mesh.RemoveModelResponse(endpoints=await self._folders.remove(request))
