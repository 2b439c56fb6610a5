"""Tells public addresses from those that only this machine or its network reach."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_AZURE_PLATFORM = ip_address("168.63.129.16")
"""A public address that answers only virtual machines of Azure, and tells them secrets."""
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20", "5f00::/16")))
"""Networks with a special purpose that not every version of Python knows as such."""
_TUNNELS = tuple(map(ip_network, ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48")))
"""IPv6 addresses that lead to an IPv4 address which they contain: 6to4, NAT64; Teredo's are special already."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. False for what is no IP address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and not _is_plain(parsed):
        return False
    special = parsed == _AZURE_PLATFORM or any(parsed in network for network in _SPECIAL)
    return _is_global(parsed) and not special


def _is_plain(address: IPv6Address) -> bool:
    """Whether it contains no IPv4 address, and belongs to no single network."""
    inside = address.ipv4_mapped is not None or any(address in network for network in _TUNNELS)
    return not inside and address.scope_id is None and not address.is_site_local


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not special and not address.is_private and not address.is_link_local
