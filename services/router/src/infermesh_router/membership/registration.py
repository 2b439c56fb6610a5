"""Owns what a worker that registers with the router is reached at. Knows no endpoints and no connections."""

from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

from infermesh_router.membership.target import parse_target
from infermesh_runtime.errors import InvalidArgument

_SCHEMES = ("ipv4:", "ipv6:")


def registered_address(address: str, peer: str) -> str:
    """host:port of a caller that says `address`; an empty host is the host of `peer`, as gRPC names it.

    Raises InvalidArgument for what is no address or cannot be reached.
    """
    if address.startswith(":"):
        address = _peer_host(peer) + address
    try:
        target = parse_target(address)
    except ValueError as error:
        raise _refusal(str(error)) from None
    if target.resolve:
        raise _refusal("a worker registers one address, not a name of several")
    if _is_unspecified(target.host):
        raise _refusal(
            f"{target.host} is where a worker listens, not where it is reached; leave the host out "
            f"(':{target.port}') for the address that the call comes from"
        )
    return target.address


def _peer_host(peer: str) -> str:
    """The host of an address, IPv6 ones in brackets."""
    peer = unquote(peer)
    if not peer.startswith(_SCHEMES):
        raise _refusal(f"a call from {peer!r} has no host to take; say which")
    host = peer.partition(":")[2].rpartition(":")[0].strip("[]")
    try:
        ip = ip_address(host)
    except ValueError:
        raise _refusal(f"a call from {peer!r} has no host to take; say which") from None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    host = str(mapped or ip)
    return f"[{host}]" if ":" in host else host


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _refusal(what: str) -> InvalidArgument:
    return InvalidArgument(f"This address cannot be registered: {what}.", fields={"address": what})
