"""Adds MeshService, which shows the mesh to web pages and tools, to what a router offers to clients."""

from dataclasses import dataclass

from infermesh_router.access.access import Access
from infermesh_router.api.listing import Listing
from infermesh_router.config.mesh_rules import admission_limits
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import Core
from infermesh_router.fleet.drainer import Drainer
from infermesh_router.membership.registry import Registry
from infermesh_router.mesh.events import MeshEvents
from infermesh_router.mesh.feed import Feed
from infermesh_router.mesh.imports.import_book import ImportBook
from infermesh_router.mesh.imports.import_follower import ImportFollower
from infermesh_router.mesh.imports.models_folders import ModelsFolders
from infermesh_router.mesh.manager import Manager
from infermesh_router.mesh.observer import Observer
from infermesh_router.mesh.owner import Owner
from infermesh_router.mesh.receipts import MeshReceipts
from infermesh_router.mesh.servicer import SERVICE, MeshServicer, mesh_handlers
from infermesh_router.mesh.sibling_servicer import SiblingServicer, sibling_handlers
from infermesh_router.mesh.view import MeshView
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.listener import Listener
from infermesh_runtime.rpc.server import Server, ServerPart


@dataclass(frozen=True, slots=True)
class Operations:
    """What those who manage the mesh see and do, on the admin plane and by MeshService."""

    siblings: Siblings
    listing: Listing
    imports: ImportBook
    view: MeshView
    feed: Feed
    drainer: Drainer
    commands: ModelCommands


def build_operations(core: Core, registry: Registry) -> Operations:
    """Builds the parts, with the other routers of the mesh."""
    siblings = core.siblings
    listing = Listing(
        core.fleet,
        source_of=registry.source_of,
        stats=core.metrics.by_endpoint,
        queues=core.admission.queues,
        siblings=siblings,
    )
    imports = ImportBook()
    view = MeshView(
        listing,
        imports=imports,
        known=core.devices,
        changes=core.fleet.changes,
        queue_limit=lambda model: admission_limits(core.mesh.config, model).max_waiting,
    )
    return Operations(
        siblings,
        listing,
        imports,
        view,
        Feed(core.journal, view),
        Drainer(core.fleet, core.dispatcher.move_streams, others=None if siblings.none_ever else siblings),
        ModelCommands(core.fleet, core.placer, wishes=core.wishes, aliases=core.aliases.models, siblings=siblings),
    )


def add_mesh_plane(
    server: Server,
    settings: RouterSettings,
    core: Core,
    operations: Operations,
    *,
    access: Access,
    tasks: TaskSupervisor,
) -> None:
    """Adds the service, and what follows restarts and imports of endpoints."""
    follower = ImportFollower(core.fleet, operations.imports)
    folders = ModelsFolders(core.fleet, operations.imports, follower)
    servicer = MeshServicer(
        operations.view,
        MeshEvents(operations.feed, operations.siblings),
        MeshReceipts(core.receipts, operations.siblings),
        Manager(operations.drainer, operations.commands, folders),
        access=access,
        owner=Owner(settings.manage_key()),
    )
    server.add_service(SERVICE, mesh_handlers(servicer))
    observer = Observer(core.fleet, core.journal)

    async def start() -> None:
        tasks.start("mesh observer", observer.run)
        tasks.start("imports", follower.run)

    server.add_part(ServerPart(name="mesh observer", start=start))


def add_sibling_plane(plane: Listener, core: Core, operations: Operations) -> None:
    """Adds what the other routers of the mesh ask this one for, to its admin address."""
    plane.add_service(SERVICE, sibling_handlers(SiblingServicer(MeshReceipts(core.receipts), operations.feed)))
