"""Adds the Open Inference Protocol to the router's planes: over gRPC and REST for clients, over gRPC for operators."""

from dataclasses import dataclass

import grpc

from infermesh_router.access.access import Access
from infermesh_router.config.body_options import body_rules, request_bounds
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import Core
from infermesh_router.kserve.carrying import Carrying
from infermesh_router.kserve.desk import Desk
from infermesh_router.kserve.infer.inferring import Inferring
from infermesh_router.kserve.rest_servicer import LIMITED_CALLS as LIMITED_REST_CALLS
from infermesh_router.kserve.rest_servicer import SERVICE as REST_SERVICE
from infermesh_router.kserve.rest_servicer import KServeServicer, kserve_handlers
from infermesh_router.kserve.servicer import LIMITED_CALLS, SERVICE, OpenInferenceServicer, open_inference_handlers
from infermesh_router.kserve.shared_memory.gate import SharedMemory
from infermesh_router.kserve.shared_memory.regions import Regions
from infermesh_router.kserve.statistics import Statistics
from infermesh_router.kserve.text.asking import TextAsking
from infermesh_router.openai.answerer import Answerer
from infermesh_router.openai.conversion import BodyConverter
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.listener import Listener
from infermesh_runtime.rpc.server import Server, ServerPart

LIMITED_METHODS = frozenset(
    {
        *(f"/{SERVICE}/{name}" for name in LIMITED_CALLS),
        *(f"/{REST_SERVICE}/{name}" for name in LIMITED_REST_CALLS),
    }
)
"""Methods whose calls count for INFERMESH_MAX_CALLS."""


@dataclass(frozen=True, slots=True)
class OpenInference:
    """What the planes share."""

    settings: RouterSettings
    core: Core
    pool: ParsingPool
    regions: Regions
    statistics: Statistics

    def add_to_clients(self, server: Server, access: Access) -> None:
        """Adds both services for clients, who may neither load nor unload models."""
        desk, carrying, texts = self._parts(access, None)
        server.add_service(SERVICE, self._handlers(desk, carrying))
        rest = KServeServicer(desk, carrying, texts, rules=body_rules(self.settings), pool=self.pool)
        server.add_service(REST_SERVICE, kserve_handlers(rest))

    def add_to_operators(self, plane: Listener, access: Access, commands: ModelCommands) -> None:
        """Adds the gRPC service for operators."""
        desk, carrying, _ = self._parts(access, commands)
        plane.add_service(SERVICE, self._handlers(desk, carrying))

    def _handlers(self, desk: Desk, carrying: Carrying) -> dict[str, grpc.RpcMethodHandler]:
        bounds = request_bounds(self.settings)
        return open_inference_handlers(OpenInferenceServicer(desk, carrying, bounds=bounds, pool=self.pool))

    def _parts(self, access: Access, commands: ModelCommands | None) -> tuple[Desk, Carrying, TextAsking]:
        settings = self.settings
        memory = SharedMemory(
            self.regions, access, allowed=settings.shared_memory, several_routers=settings.several_routers
        )
        texts = TextAsking(
            Answerer(self.core.dispatcher), BodyConverter(self.pool, body_rules(self.settings)), access=access
        )
        desk = Desk(
            access=access,
            make_report=self.core.make_report,
            statistics=self.statistics,
            memory=memory,
            commands=commands,
        )
        inferring = Inferring(self.core.dispatcher, memory)
        return desk, Carrying(inferring, texts, desk=desk, access=access, statistics=self.statistics), texts


def add_open_inference(
    server: Server, settings: RouterSettings, core: Core, *, access: Access, pool: ParsingPool, tasks: TaskSupervisor
) -> OpenInference:
    """Adds the services for clients, and what ends the regions of shared memory that nobody uses; returns what the
    planes share.
    """
    regions = Regions(lease_s=settings.shared_memory_lease_s)

    async def start() -> None:
        tasks.start("shared memory leases", regions.keep_sweeping)

    if settings.shared_memory:
        server.add_part(ServerPart(name="shared memory", start=start))
    shared = OpenInference(settings, core, pool, regions, Statistics())
    shared.add_to_clients(server, access)
    return shared
