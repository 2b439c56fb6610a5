"""Addresses of listeners: host:port, or unix:PATH for a socket in the file system."""

import ipaddress
from pathlib import Path
from urllib.parse import quote

from infermesh_runtime.settings import split_host_port

UNIX = "unix:"
MAX_UNIX_PATH_BYTES = 107
"""A longer path does not fit a socket's address on Linux."""


def check_listen(value: str) -> str:
    """The value, if it is host:port or unix:PATH with an absolute path. Raises ValueError."""
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


def is_loopback(address: str) -> bool:
    """Whether only processes on this machine can reach the address. A name other than localhost may be anywhere."""
    if address.startswith(UNIX):
        return True
    host, _ = split_host_port(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
