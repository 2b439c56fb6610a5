"""Adds MeshService, which shows the mesh to web pages and tools, to what a router offers to clients."""

from infermesh_router.access.access import Access
from infermesh_router.api.listing import Listing
from infermesh_router.config.mesh_rules import admission_limits
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import Core
from infermesh_router.fleet.drainer import Drainer
from infermesh_router.mesh.feed import Feed
from infermesh_router.mesh.import_book import ImportBook
from infermesh_router.mesh.import_follower import ImportFollower
from infermesh_router.mesh.manager import Manager
from infermesh_router.mesh.models_folders import ModelsFolders
from infermesh_router.mesh.observer import Observer
from infermesh_router.mesh.owner import Owner
from infermesh_router.mesh.servicer import SERVICE, MeshServicer, mesh_handlers
from infermesh_router.mesh.view import MeshView
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.server import Server, ServerPart


def add_mesh_plane(
    server: Server,
    settings: RouterSettings,
    core: Core,
    *,
    access: Access,
    listing: Listing,
    drainer: Drainer,
    commands: ModelCommands,
    tasks: TaskSupervisor,
) -> None:
    """Adds the service, and what follows restarts and imports of endpoints."""
    book = ImportBook()
    follower = ImportFollower(core.fleet, book)
    view = MeshView(
        listing,
        imports=book,
        changes=core.fleet.changes,
        queue_limit=lambda model: admission_limits(core.mesh.config, model).max_waiting,
    )
    feed = Feed(core.journal, view)
    manager = Manager(drainer, commands, ModelsFolders(core.fleet, book, follower))
    owner = Owner(settings.manage_key())
    servicer = MeshServicer(view, feed, core.receipts, manager, access=access, owner=owner)
    server.add_service(SERVICE, mesh_handlers(servicer))
    observer = Observer(core.fleet, core.journal)

    async def start() -> None:
        tasks.start("mesh observer", observer.run)
        tasks.start("imports", follower.run)

    server.add_part(ServerPart(name="mesh observer", start=start))
