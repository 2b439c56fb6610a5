"""Answers what clients ask of the server and of its models, but not of them: facts, counts, commands and memory."""

from collections.abc import Callable

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.access.access import Access
from infermesh_router.access.permissions import hide_models
from infermesh_router.kserve.models import (
    EXTENSIONS,
    SERVER,
    find,
    generates,
    is_ready,
    known_model,
    show_config,
    show_index,
    show_metadata,
)
from infermesh_router.kserve.shared_memory.gate import SharedMemory
from infermesh_router.kserve.statistics import Statistics
from infermesh_router.kserve.tensors.values import VERSION
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_runtime.errors import InvalidArgument, NotFound, PermissionDenied
from infermesh_runtime.rpc.audit import audited
from infermesh_runtime.rpc.context import RpcContext

_HIGHEST_NUMBER = (1 << 63) - 1


class Desk:
    """The calls of the protocol besides inference. Its methods raise InfermeshError."""

    def __init__(
        self,
        *,
        access: Access,
        make_report: Callable[[], pb.HealthReport],
        statistics: Statistics,
        memory: SharedMemory,
        commands: ModelCommands | None,
    ) -> None:
        """`commands` load and unload models; None where callers may not."""
        self._access = access
        self._make_report = make_report
        self._statistics = statistics
        self._memory = memory
        self._commands = commands

    def is_ready(self) -> bool:
        """Whether a request could be served now."""
        return self._make_report().state == pb.ENDPOINT_STATE_READY

    def server(self) -> oip.ServerMetadataResponse:
        """What the server is."""
        return oip.ServerMetadataResponse(name=SERVER, version=self._make_report().version, extensions=EXTENSIONS)

    def is_model_ready(self, name: str, version: str, context: RpcContext) -> bool:
        """Whether the model is loaded. Raises ModelNotFound."""
        report = self._report_for(context)
        find(report, name, version)
        return is_ready(report, name)

    def metadata(self, name: str, version: str, context: RpcContext) -> oip.ModelMetadataResponse:
        """A model's inputs and outputs."""
        report = self._report_for(context)
        return show_metadata(find(report, name, version), report.runtime)

    def config(self, name: str, version: str, context: RpcContext) -> oip.ModelConfig:
        """A model's configuration."""
        report = self._report_for(context)
        return show_config(find(report, name, version), report.runtime)

    def generates(self, name: str, context: RpcContext) -> bool | None:
        """Whether the model is a language model; None if there is none of this name."""
        report = self._report_for(context)
        known = known_model(report, name)
        return None if known is None else generates(known)

    def statistics(self, name: str, version: str, context: RpcContext) -> oip.ModelStatisticsResponse:
        """The counts of one model, or of all if the name is empty."""
        report = self._report_for(context)
        names = [find(report, name, version).name] if name else [each.name for each in show_index(report, ready=False)]
        return oip.ModelStatisticsResponse(model_stats=[self._count(each) for each in names])

    def index(self, repository: str, context: RpcContext, *, ready: bool) -> oip.RepositoryIndexResponse:
        """The models that are loaded or could be."""
        _check_repository(repository)
        return oip.RepositoryIndexResponse(models=show_index(self._report_for(context), ready=ready))

    async def load(self, request: oip.RepositoryModelLoadRequest, context: RpcContext) -> None:
        """Loads a model."""
        with audited(context, request):
            commands = self._permitted("load", request.model_name, context)
            _check_repository(request.repository_name)
            for name in request.parameters:
                raise InvalidArgument(
                    f"The parameter '{name}' is not supported: models are loaded as they were imported.",
                    fields={f"parameters.{name}": "is not supported"},
                )
            await commands.load(admin_pb2.LoadModelRequest(model=request.model_name))

    async def unload(self, request: oip.RepositoryModelUnloadRequest, context: RpcContext) -> None:
        """Unloads a model."""
        with audited(context, request):
            commands = self._permitted("unload", request.model_name, context)
            _check_repository(request.repository_name)
            await commands.unload(admin_pb2.UnloadModelRequest(model=request.model_name))

    def regions(self, name: str, context: RpcContext) -> oip.SystemSharedMemoryStatusResponse:
        """The caller's regions of shared memory."""
        listed = self._memory.regions.list_regions(self._memory.enter(context), name)
        response = oip.SystemSharedMemoryStatusResponse()
        for region in listed:
            shown = response.regions[region.name]
            shown.name, shown.key, shown.offset, shown.byte_size = (
                region.name,
                region.key,
                region.offset,
                region.size_bytes,
            )
        return response

    def register(self, request: oip.SystemSharedMemoryRegisterRequest, context: RpcContext) -> None:
        """Registers a region."""
        with audited(context, request):
            client = self._memory.enter(context)
            if max(request.offset, request.byte_size) > _HIGHEST_NUMBER:
                raise InvalidArgument(
                    "'offset' and 'byte_size' must lie within the object.", reason="BAD_SHARED_MEMORY"
                )
            self._memory.regions.register(client, request.name, request.key, request.offset, request.byte_size)

    def unregister(self, request: oip.SystemSharedMemoryUnregisterRequest, context: RpcContext) -> None:
        """Ends the registration of a region, or of all of the caller's."""
        with audited(context, request):
            self._memory.regions.unregister(self._memory.enter(context), request.name)

    def _permitted(self, what: str, model: str, context: RpcContext) -> ModelCommands:
        if self._commands is None:
            self._access.identify(context)
            raise PermissionDenied(
                f"Operators {what} models: `infermesh models {what} {model}`, or this call at INFERMESH_ADMIN_LISTEN. "
                "A request for a model loads it, too.",
                reason="OPERATORS_ONLY",
            )
        return self._commands

    def _report_for(self, context: RpcContext) -> pb.HealthReport:
        """The router's report with the models that the caller may use."""
        return hide_models(self._access.identify(context), self._make_report())

    def _count(self, name: str) -> oip.ModelStatistics:
        counts = self._statistics.of(name)
        return oip.ModelStatistics(
            name=name,
            version=VERSION,
            last_inference=counts.last_ms,
            inference_count=counts.succeeded,
            execution_count=counts.succeeded,
            inference_stats=oip.InferStatistics(
                success=oip.StatisticDuration(count=counts.succeeded, ns=counts.succeeded_ns),
                fail=oip.StatisticDuration(count=counts.failed, ns=counts.failed_ns),
            ),
        )


def _check_repository(name: str) -> None:
    if name:
        raise NotFound(
            f"There is no repository '{name}': leave the name empty.", fields={"repository_name": "must be empty"}
        )
