"""Works out the address at which the router reaches a worker that registers."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote

from infermesh_router.membership.target import parse_target
from infermesh_runtime.errors import InvalidArgument, PermissionDenied

_SCHEMES = ("ipv4:", "ipv6:")
_NO_HOST = "its host is empty, and the caller {peer!r} has none either; register host:port"


def registered_address(address: str, peer: str, networks: Sequence[str] = ()) -> str:
    """The host:port of a worker that registers as `address`. An empty host means the host of `peer`, in gRPC's form.

    Raises InvalidArgument for anything else than one address that the router could reach. With `networks`
    ("10.0.0.0/8"), raises PermissionDenied for a host that is not an IP address in one of them: nothing is looked up or
    dialled to find out.
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
    if networks and not _is_within(target.host, networks):
        raise PermissionDenied(
            f"Workers may not register at {target.host}: INFERMESH_REGISTRATION_NETWORKS of the router lists the "
            f"networks for them, {', '.join(networks)}. Register an IP address in one of them.",
            reason="ADDRESS_NOT_ALLOWED",
        )
    return target.address


def _is_within(host: str, networks: Sequence[str]) -> bool:
    try:
        ip = ip_address(host)
    except ValueError:
        return False
    return any(ip in ip_network(network) for network in networks)


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
