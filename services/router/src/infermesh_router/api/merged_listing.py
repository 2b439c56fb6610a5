"""Adds up what several routers know of the same endpoints and queues."""

from collections.abc import Iterable, Sequence

from infermesh.admin.v1 import admin_pb2 as pb


def merge(own: pb.ListEndpointsResponse, others: Sequence[pb.ListEndpointsResponse]) -> pb.ListEndpointsResponse:
    """The endpoints and queues of all. Of an endpoint that this router follows, its own view of the state counts."""
    if not others:
        return own
    listings = (own, *others)
    endpoints: dict[str, pb.Endpoint] = {}
    for endpoint in (each for listing in listings for each in listing.endpoints):
        known = endpoints.get(endpoint.address)
        if known is None:
            endpoints[endpoint.address] = endpoint
        else:
            _add(known, endpoint)
    queues: dict[str, pb.ModelQueue] = {}
    for queue in (each for listing in listings for each in listing.queues):
        known_queue = queues.setdefault(queue.model, pb.ModelQueue(model=queue.model))
        known_queue.waiting += queue.waiting
        known_queue.oldest_ms = max(known_queue.oldest_ms, queue.oldest_ms)
    return pb.ListEndpointsResponse(endpoints=_sorted(endpoints), queues=(queues[model] for model in sorted(queues)))


def _add(known: pb.Endpoint, other: pb.Endpoint) -> None:
    """Adds what another router has sent to the endpoint."""
    known.in_flight += other.in_flight
    known.failovers += other.failovers
    for reason, count in other.choices.items():
        known.choices[reason] += count


def _sorted(endpoints: dict[str, pb.Endpoint]) -> Iterable[pb.Endpoint]:
    return (endpoints[address] for address in sorted(endpoints))
