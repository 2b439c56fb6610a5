"""A scripted worker with a models folder, which other workers may share."""

from dataclasses import dataclass, field

import grpc

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.admin.v1 import admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import ScriptedWorker
from infermesh_runtime.errors import AlreadyExists, InfermeshError, ModelNotFound, NotFound, ResourceExhausted
from infermesh_runtime.rpc.context import RpcContext

# ruff: noqa: ARG002 - the contract fixes the signatures of RPCs


@dataclass
class SharedFolder:
    """A models folder: the names of the models in it, and the worker that imports into it."""

    id: str = "folder"
    models: set[str] = field(default_factory=set)
    importing: object = None
    workers: list["FolderWorker"] = field(default_factory=list)
    """Those that share it."""


@dataclass
class FolderWorker(ScriptedWorker, admin_pb2_grpc.ModelsFolderServiceServicer):
    """A worker whose imports go on until the test ends them."""

    folder: SharedFolder = field(default_factory=SharedFolder)
    import_problem: str = ""
    imports: list[admin.ModelImport] = field(default_factory=list)
    """Newest first."""
    starts: list[admin.StartImportRequest] = field(default_factory=list)
    listed: int = 0
    """How often its imports were listed."""
    removal_error: InfermeshError | None = None
    changes: int = 0
    started_at: int = 1

    def add_services(self, server: grpc.aio.Server) -> None:
        """Adds the service of its folder."""
        self.folder.workers.append(self)
        admin_pb2_grpc.add_ModelsFolderServiceServicer_to_server(self, server)

    def note(self) -> None:
        """Reports that its imports have changed."""
        self.changes += 1
        self.tell()

    def restart(self) -> None:
        """Forgets its imports, as a new process does."""
        self.imports, self.changes, self.folder.importing = [], 0, None
        self.started_at += 1

    async def StartImport(self, request: admin.StartImportRequest, context: RpcContext) -> admin.StartImportResponse:
        """Begins one, unless one runs in the folder."""
        self.starts.append(request)
        if self.folder.importing is not None:
            raise ResourceExhausted(f"{self.address} is busy", reason="IMPORT_RUNNING")
        if request.name in self.folder.models and not request.force:
            raise AlreadyExists(f"'{request.name}' is there")
        self.folder.importing = self
        made = admin.ModelImport(import_id=f"{self.address}-{len(self.starts)}", source=request.source)
        made.name, made.state, made.step = request.name, admin.IMPORT_STATE_RUNNING, "starting"
        made.started_at.FromSeconds(1000 + len(self.starts))
        self.imports.insert(0, made)
        self.note()
        return admin.StartImportResponse(model_import=made)

    async def ListImports(self, request: admin.ListImportsRequest, context: RpcContext) -> admin.ListImportsResponse:
        """Lists them."""
        self.listed += 1
        return admin.ListImportsResponse(imports=self.imports)

    async def CancelImport(self, request: admin.CancelImportRequest, context: RpcContext) -> admin.CancelImportResponse:
        """Ends one."""
        found = [each for each in self.imports if each.import_id == request.import_id]
        if not found:
            raise NotFound("no such import")
        self.end(admin.IMPORT_STATE_CANCELLED)
        return admin.CancelImportResponse(model_import=found[0])

    async def RemoveModel(self, request: admin.RemoveModelRequest, context: RpcContext) -> admin.RemoveModelResponse:
        """Removes one, unless the test says why not."""
        if self.removal_error is not None:
            raise self.removal_error
        if request.model not in self.folder.models:
            raise ModelNotFound("not there")
        self.folder.models.discard(request.model)
        for worker in self.folder.workers:
            worker.tell()
        return admin.RemoveModelResponse()

    def end(self, state: admin.ImportState, message: str = "") -> None:
        """Ends the import that runs."""
        self.imports[0].state, self.imports[0].message = state, message
        self.imports[0].ended_at.FromSeconds(2000)
        self.folder.importing = None
        self.note()

    def _report(self) -> pb.HealthReport:
        report = super()._report()
        report.started_at.FromSeconds(self.started_at)
        report.models_folder.id, report.models_folder.import_problem = self.folder.id, self.import_problem
        report.models_folder.import_changes = self.changes
        del report.available[:]
        report.available.extend(pb.AvailableModel(name=name) for name in sorted(self.folder.models))
        return report
