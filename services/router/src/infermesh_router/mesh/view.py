"""Shows endpoints and queues of this moment, to callers who may see some models only."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.api.listing import Listing
from infermesh_router.fleet.changes import Changes
from infermesh_router.fleet.device_names import KnownDevices
from infermesh_router.mesh.describe import describe_endpoints, describe_queues
from infermesh_router.mesh.imports.import_book import ImportBook
from infermesh_router.mesh.json_values import to_json
from infermesh_router.mesh.viewer import Viewer

T = TypeVar("T")
_FEW = 16
"""More endpoints than these are described in a thread, because that takes more than a few milliseconds."""


class MeshView:
    """What the router knows of its fleet and queues now, from the same lists as AdminService's."""

    def __init__(
        self,
        listing: Listing,
        *,
        changes: Changes,
        queue_limit: Callable[[str], int],
        imports: ImportBook | None = None,
        known: KnownDevices | None = None,
    ) -> None:
        """`known`: by which requests name endpoints, see fleet/device_names.py."""
        self._listing = listing
        self._imports = imports or ImportBook()
        self._changes = changes
        self._queue_limit = queue_limit
        self._known = known or KnownDevices()

    async def endpoints(self, viewer: Viewer) -> list[pb.Endpoint]:
        """The endpoints, sorted by address."""
        listed = (await self._listing.of_all()).endpoints
        return await _run(len(listed), lambda: describe_endpoints(listed, viewer.may_see, self._known))

    async def queues(self, viewer: Viewer) -> list[pb.Queue]:
        """The queues in which requests wait, sorted by model."""
        return self._describe_queues((await self._listing.of_all()).queues, viewer)

    async def as_json(self, viewer: Viewer) -> dict[str, Any]:
        """Endpoints, queues, and for those who manage imports, as JSON holds them."""
        listed = await self._listing.of_all()
        queues = self._describe_queues(listed.queues, viewer)
        imports = [*map(to_json, self._imports.all)] if viewer.manages else []

        def describe() -> dict[str, Any]:
            endpoints = describe_endpoints(listed.endpoints, viewer.may_see, self._known)
            return {
                "endpoints": [*map(to_json, endpoints)],
                "queues": [*map(to_json, queues)],
                "imports": imports,
            }

        return await _run(len(listed.endpoints), describe)

    def _describe_queues(self, queues: Iterable[admin.ModelQueue], viewer: Viewer) -> list[pb.Queue]:
        return describe_queues(queues, self._queue_limit, viewer.may_see)

    @property
    def version(self) -> int:
        """Grows when endpoints or imports change."""
        return self._changes.version + self._imports.version

    def changed_since(self, version: int) -> bool:
        """Whether endpoints or imports have changed since then, or requests wait, which grow older."""
        return self.version != version or bool(self._listing.queues())


async def _run(endpoints: int, work: Callable[[], T]) -> T:
    return work() if endpoints <= _FEW else await asyncio.to_thread(work)
