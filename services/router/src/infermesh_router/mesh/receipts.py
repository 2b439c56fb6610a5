"""Receipts of all routers of the mesh, whichever of them is asked."""

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.journal.receipts import Receipts
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.errors import NotFound


class MeshReceipts:
    """This router's receipts, and those that the other routers keep."""

    def __init__(self, own: Receipts, siblings: Siblings | None = None) -> None:
        self._own = own
        self._siblings = siblings or Siblings()

    async def find(self, request_id: str, client: str | None) -> pb.Receipt:
        """The receipt of a request. `client`: whose it must be; None: anybody's. Raises NotFound."""
        found = self._own.find(request_id, client) or await self._siblings.receipt(request_id, client)
        if found is None:
            raise NotFound(
                f"No receipt of the request '{request_id}' is kept: it has not ended, was refused because of its "
                "body or key, is too old, or was another caller's.",
                reason="RECEIPT_NOT_FOUND",
            )
        return found

    async def newest(self, limit: int, client: str | None) -> list[pb.Receipt]:
        """The receipts of the last requests, newest first."""
        own = self._own.newest(limit, client)
        others = await self._siblings.receipts(limit, client)
        if not others:
            return own
        return sorted((*own, *others), key=lambda receipt: receipt.arrived_at.ToNanoseconds(), reverse=True)[:limit]
