"""Addresses to listen on: host:port, or unix:PATH for a socket in the file system; which of them strangers reach."""

import ipaddress
from pathlib import Path
from urllib.parse import quote

UNIX = "unix:"
MAX_UNIX_PATH_BYTES = 107
"""A longer path does not fit a socket's address on Linux."""


def split_host_port(value: str) -> tuple[str, int]:
    """Splits "host:port" or "[ipv6]:port". Raises ValueError for anything else, or a port outside [0, 65535]."""
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address must be in brackets, as in [::1]:8080")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("expected host:port with a port from 0 to 65535 (0 picks a free one)")
    try:
        host.encode("idna")  # as every lookup of the name does
    except UnicodeError:
        raise ValueError(f"{host!r} cannot be a host name: each part between dots has 1 to 63 characters") from None
    return host, int(port)


def check_listen(value: str) -> str:
    """The value, if it is host:port, or unix:PATH with an absolute path. Raises ValueError."""
    if not value.startswith(UNIX):
        split_host_port(value)
        return value
    path = unix_path(value)
    if not path.is_absolute():
        raise ValueError("expected an absolute path after unix:")
    if len(str(path).encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of a socket may have {MAX_UNIX_PATH_BYTES} bytes at most")
    return value


def unix_path(address: str) -> Path:
    """The path in "unix:PATH"."""
    return Path(address.removeprefix(UNIX))


def grpc_target(address: str) -> str:
    """The address as gRPC wants it: the path of a socket is part of a URI there."""
    return UNIX + quote(str(unix_path(address))) if address.startswith(UNIX) else address


def is_loopback(listen: str) -> bool:
    """Whether only processes on this machine can reach it. A name other than localhost may be anywhere."""
    if listen.startswith(UNIX):
        return True
    host, _ = split_host_port(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(variable: str, listen: str, *, protected: bool, insecure: bool) -> None:
    """Raises ValueError for an address that strangers may reach, unless it is protected or that was asked for."""
    if protected or insecure or is_loopback(listen):
        return
    raise ValueError(
        f"{variable}={listen!r} can be reached from other machines, in plain text and by anybody. Set "
        "INFERMESH_MESH_CA, INFERMESH_MESH_CERT and INFERMESH_MESH_KEY for mutual TLS, listen on 127.0.0.1, or, if "
        "your network keeps strangers out, set INFERMESH_INSECURE=1"
    )
