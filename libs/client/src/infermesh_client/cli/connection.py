"""Connects the command to an endpoint, by default the mesh on this machine, and explains when nothing answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_client.client import Client
from infermesh_client.mesh.state import read_state
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import Unavailable

_NOBODY_LISTENS = ("failed to connect", "connection refused", "Connection refused", "name resolution", "DNS resolution")


@contextmanager
def connect(endpoint: str | None, settings: ClientSettings, *, timeout_s: float | None) -> Iterator[Client]:
    """Yields a client of `endpoint`, or of the mesh on this machine. Raises Unavailable when nothing answers there."""
    address = endpoint or _own_mesh(settings)
    try:
        with Client(address, timeout_s=timeout_s, api_key=settings.api_key) as client:
            yield client
    except Unavailable as error:
        if error.reason != Unavailable.reason or not any(sign in error.message for sign in _NOBODY_LISTENS):
            raise
        hint = "check the address" if endpoint else "`infermesh up` starts a mesh"
        raise Unavailable(f"nothing answers at {address}; {hint}", reason="UNREACHABLE") from error


def _own_mesh(settings: ClientSettings) -> str:
    """Address of this user's mesh: the port in INFERMESH_GRPC_PORT, else the port that the mesh was started with."""
    state = None if "grpc_port" in settings.model_fields_set else read_state(Home.of(settings))
    return state.grpc if state else f"127.0.0.1:{settings.grpc_port}"
