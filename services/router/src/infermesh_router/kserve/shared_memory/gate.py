"""Decides who may use shared memory: clients on this machine, if the setting allows it; each has regions of its own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import unquote

from infermesh_router.access.access import Access
from infermesh_router.kserve.shared_memory.regions import Regions
from infermesh_runtime.errors import InfermeshError, PermissionDenied
from infermesh_runtime.rpc.context import RpcContext

_FORWARDED = "x-forwarded-for"


class SharedMemory:
    """The regions, for those who may use them."""

    def __init__(self, regions: Regions, access: Access, *, allowed: bool) -> None:
        self.regions = regions
        self._access = access
        self._allowed = allowed

    def enter(self, context: RpcContext) -> str:
        """The name under which the caller's regions are kept. Raises PermissionDenied and Unauthenticated."""
        key = self._access.identify(context)
        if not self._allowed:
            raise _refused(
                "The router does not use shared memory. Operators allow it with INFERMESH_SHARED_MEMORY=true."
            )
        if not is_local(context):
            raise _refused("Shared memory is for clients on the router's own machine.")
        return key.name if key else ""


def is_local(context: RpcContext) -> bool:
    """Whether the call comes from this machine, through Envoy or not."""
    peer = unquote(context.peer())
    noted = [str(value) for name, value in context.invocation_metadata() or () if name == _FORWARDED]
    origins = [value.rpartition(",")[2].strip() for value in noted]
    direct = peer.startswith("unix:") or _is_own(peer.partition(":")[2].rpartition(":")[0])
    return direct and all(map(_is_own, origins))


def _is_own(host: str) -> bool:
    """Whether an address is one of this machine. For a client at a loopback address Envoy notes another of its own."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return True
    if address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))  # possible for addresses of this machine only
        except OSError:
            return False
    return True


def _refused(message: str) -> PermissionDenied:
    return PermissionDenied(message, reason="SHARED_MEMORY_NOT_ALLOWED")


@contextmanager
def renamed(tensor: str) -> Iterator[None]:
    """Says in an error about shared memory which tensor it is about."""
    try:
        yield
    except InfermeshError as error:
        error.message = f"The tensor '{tensor}': {error.message}"
        raise
