"""Works out the address at which the router reaches a worker that registers."""

from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

from infermesh_router.membership.target import parse_target
from infermesh_runtime.errors import InvalidArgument

_SCHEMES = ("ipv4:", "ipv6:")
_NO_HOST = "its host is empty, and the caller {peer!r} has none either; register host:port"


def registered_address(address: str, peer: str) -> str:
    """The host:port of a worker that registers as `address`. An empty host means the host of `peer`, in gRPC's form.

    Raises InvalidArgument for anything else than one address that the router could reach.
    """
    if address.startswith(":"):
        address = _peer_host(peer) + address
    try:
        target = parse_target(address)
    except ValueError as error:
        raise _refusal(str(error)) from None
    if target.resolve:
        raise _refusal("a worker registers one host:port, not a dns:/// name")
    if _is_unspecified(target.host):
        raise _refusal(
            f"a worker can listen on {target.host}, but the router cannot reach it there; give its real host, or leave "
            f"the host out (':{target.port}') to register the address that the call comes from"
        )
    return target.address


def _peer_host(peer: str) -> str:
    """The host of gRPC's name for a peer; IPv6 hosts in brackets."""
    peer = unquote(peer)
    if not peer.startswith(_SCHEMES):
        raise _refusal(_NO_HOST.format(peer=peer))
    host = peer.partition(":")[2].rpartition(":")[0].strip("[]")
    try:
        ip = ip_address(host)
    except ValueError:
        raise _refusal(_NO_HOST.format(peer=peer)) from None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    host = str(mapped or ip)
    return f"[{host}]" if ":" in host else host


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _refusal(what: str) -> InvalidArgument:
    return InvalidArgument(f"The address cannot be registered: {what}.", fields={"address": what})
