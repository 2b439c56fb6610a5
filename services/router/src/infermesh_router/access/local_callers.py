"""Says whether a call comes from the router's own machine, through Envoy or not."""

import socket
from ipaddress import ip_address
from urllib.parse import unquote

from infermesh_runtime.rpc.context import RpcContext

_FORWARDED = "x-forwarded-for"


def is_local(context: RpcContext) -> bool:
    """Whether the call comes from this machine: the last client that proxies noted, whom Envoy itself saw."""
    peer = unquote(context.peer())
    noted = [str(value) for name, value in context.invocation_metadata() if name == _FORWARDED]
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
