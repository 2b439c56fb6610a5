"""Lists endpoints and queues as messages of AdminService."""

from collections.abc import Callable, Iterable

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh_router.api.merged_listing import merge
from infermesh_router.fleet.breaker import BreakerState
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.endpoint_stats import StatsByAddress
from infermesh_router.siblings.siblings import Siblings

_BREAKERS = {
    BreakerState.CLOSED: pb.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: pb.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: pb.BREAKER_STATE_HALF_OPEN,
}


class Listing:
    """What the router knows of its fleet and queues now."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        source_of: Callable[[str], str],
        stats: StatsByAddress,
        queues: Callable[[], Iterable[pb.ModelQueue]],
        siblings: Siblings | None = None,
    ) -> None:
        """`siblings`: the other routers of the mesh."""
        self._siblings = siblings or Siblings()
        self._fleet = fleet
        self._source_of = source_of
        self._stats = stats
        self._queues = queues

    async def of_all(self) -> pb.ListEndpointsResponse:
        """Endpoints and queues, with what the other routers of the mesh have sent and hold waiting."""
        return merge(self.own(), await self._siblings.listings())

    def own(self) -> pb.ListEndpointsResponse:
        """Endpoints and queues, as this router knows them."""
        return pb.ListEndpointsResponse(endpoints=self.endpoints(), queues=self.queues())

    def endpoints(self) -> list[pb.Endpoint]:
        """All endpoints, sorted by address."""
        return [self._to_proto(endpoint) for endpoint in self._fleet.endpoints]

    def queues(self) -> list[pb.ModelQueue]:
        """The queues with waiting requests, sorted by model."""
        return sorted((queue for queue in self._queues() if queue.waiting), key=lambda queue: queue.model)

    def _to_proto(self, endpoint: Endpoint) -> pb.Endpoint:
        stats = self._stats.of(endpoint.address)
        return pb.Endpoint(
            address=endpoint.address,
            connected=endpoint.connected,
            report=endpoint.last_report,
            in_flight=endpoint.in_flight,
            seconds_to_drain=endpoint.snapshot.seconds_to_drain,
            last_error=endpoint.last_error,
            breaker=_BREAKERS[endpoint.breaker.state],
            choices=stats.choices,
            failovers=stats.failovers,
            queued_ms=stats.queued_ms,
            overhead_ms=stats.overhead_ms,
            source=self._source_of(endpoint.address),
        )
