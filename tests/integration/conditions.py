"""Conditions that tests wait for in a router's list of endpoints."""

from collections.abc import Callable, Sequence

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb


def is_ready(endpoint: admin_pb2.Endpoint) -> bool:
    """Whether the router is connected to it and it takes requests."""
    return endpoint.connected and endpoint.report.state == pb.ENDPOINT_STATE_READY


def ready(count: int) -> Callable[[Sequence[admin_pb2.Endpoint]], bool]:
    """A condition that is true when exactly `count` endpoints are ready."""

    def enough(listed: Sequence[admin_pb2.Endpoint]) -> bool:
        return sum(map(is_ready, listed)) == count

    return enough


def all_busy(listed: Sequence[admin_pb2.Endpoint]) -> bool:
    """Whether the router knows of each endpoint that it is generating."""
    return all(endpoint.report.load.running for endpoint in listed)
