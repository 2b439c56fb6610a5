"""gRPC service that imports models into a worker's models folder, and removes them from it."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc
from infermesh_runtime.importing.network_imports import check_model_name, check_network_source, check_weights
from infermesh_runtime.rpc.audit import audited
from infermesh_runtime.rpc.context import RpcContext
from infermesh_worker.importing.command import Wanted
from infermesh_worker.importing.import_record import ImportRecord, ImportState
from infermesh_worker.importing.imports import Imports
from infermesh_worker.importing.removal import Removal

_STATES = {
    ImportState.RUNNING: pb.IMPORT_STATE_RUNNING,
    ImportState.DONE: pb.IMPORT_STATE_DONE,
    ImportState.FAILED: pb.IMPORT_STATE_FAILED,
    ImportState.CANCELLED: pb.IMPORT_STATE_CANCELLED,
}


class ModelsFolderServicer(admin_pb2_grpc.ModelsFolderServiceServicer):
    """infermesh.admin.v1.ModelsFolderService over a worker's models folder."""

    def __init__(self, imports: Imports, removal: Removal) -> None:
        self._imports = imports
        self._removal = removal

    async def StartImport(self, request: pb.StartImportRequest, context: RpcContext) -> pb.StartImportResponse:
        with audited(context, request):
            return pb.StartImportResponse(model_import=_to_message(self._imports.start(_wanted(request))))

    async def ListImports(self, request: pb.ListImportsRequest, context: RpcContext) -> pb.ListImportsResponse:
        return pb.ListImportsResponse(imports=map(_to_message, self._imports.all))

    async def CancelImport(self, request: pb.CancelImportRequest, context: RpcContext) -> pb.CancelImportResponse:
        with audited(context, request):
            return pb.CancelImportResponse(model_import=_to_message(await self._imports.cancel(request.import_id)))

    async def RemoveModel(self, request: pb.RemoveModelRequest, context: RpcContext) -> pb.RemoveModelResponse:
        with audited(context, request):
            await self._removal.remove(request.model)
        return pb.RemoveModelResponse()


def _wanted(request: pb.StartImportRequest) -> Wanted:
    return Wanted(
        source=check_network_source(request.source),
        name=check_model_name(request.name),
        weights=check_weights(request.weights),
        force=request.force,
    )


def _to_message(record: ImportRecord) -> pb.ModelImport:
    message = pb.ModelImport(
        import_id=record.import_id,
        source=record.source,
        name=record.name,
        state=_STATES[record.state],
        step=record.step,
        fraction=record.fraction,
        done_bytes=record.done_bytes,
        total_bytes=record.total_bytes,
        message=record.message,
    )
    message.started_at.FromDatetime(record.started_at)
    if record.ended_at is not None:
        message.ended_at.FromDatetime(record.ended_at)
    return message
