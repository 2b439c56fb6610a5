"""Shows endpoints and queues of this moment, to callers who may see some models only."""

from collections.abc import Callable

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.api.listing import Listing
from infermesh_router.fleet.changes import Changes
from infermesh_router.mesh.describe import describe_endpoints, describe_queues
from infermesh_router.mesh.viewer import Viewer


class MeshView:
    """What the router knows of its fleet and queues now, from the same lists as AdminService's."""

    def __init__(self, listing: Listing, *, changes: Changes, queue_limit: Callable[[str], int]) -> None:
        self._listing = listing
        self._changes = changes
        self._queue_limit = queue_limit

    def endpoints(self, viewer: Viewer) -> list[pb.Endpoint]:
        """The endpoints, sorted by address."""
        return describe_endpoints(self._listing.endpoints(), viewer.may_see)

    def queues(self, viewer: Viewer) -> list[pb.Queue]:
        """The queues in which requests wait, sorted by model."""
        return describe_queues(self._listing.queues(), self._queue_limit, viewer.may_see)

    @property
    def version(self) -> int:
        """Grows when endpoints change."""
        return self._changes.version

    def changed_since(self, version: int) -> bool:
        """Whether endpoints have changed since then, or requests wait, which grow older."""
        return self._changes.version != version or bool(self._listing.queues())
