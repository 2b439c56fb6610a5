"""The stream of events with those of the other routers of the mesh, as each of them sends them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from infermesh_router.journal.positions import mark_all, read_positions
from infermesh_router.mesh.feed import Feed
from infermesh_router.mesh.viewer import Viewer
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.api_keys import ApiKey


class MeshEvents:
    """This router's feed, and the events of the others. Snapshots are this router's, and tell of the whole mesh."""

    def __init__(self, feed: Feed, siblings: Siblings | None = None) -> None:
        self._feed = feed
        self._siblings = siblings or Siblings()

    def follow(self, viewer: Viewer, last_id: str = "") -> AsyncGenerator[bytes, None]:
        """Server-sent events: the kept ones, a snapshot, and then all as they happen. Raises ResourceExhausted.

        `last_id`: the id of the last event that the listener had; those before it do not come again.
        """
        positions = read_positions(last_id)
        own = self._feed.follow(viewer, positions)
        return own if self._siblings.none_ever else self._of_all(own, viewer, positions)

    async def _of_all(
        self, own: AsyncGenerator[bytes, None], viewer: Viewer, positions: dict[str, int]
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._siblings.events(own, positions, **tell_viewer(viewer))) as blocks:
            async for block in blocks:
                yield mark_all(block, positions)


def tell_viewer(viewer: Viewer) -> dict[str, Any]:
    """What another router must know of a caller to choose the events that it sees."""
    key = viewer.key
    return {"key": key and key.name, "models": list(viewer.models), "manages": viewer.manages}


def told_viewer_of(told: dict[str, Any]) -> Viewer:
    """The caller that another router told."""
    if told["key"] is None:
        return Viewer(None, manages=told["manages"])
    key = ApiKey(name=told["key"], sha256="", created=datetime.now(UTC), models=tuple(told["models"]))
    return Viewer(key, manages=told["manages"])
