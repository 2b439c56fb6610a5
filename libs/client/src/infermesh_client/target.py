"""Reads where a client connects (host:port, unix:PATH, or grpcs://host:port for TLS), and what a channel needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from infermesh_runtime.addresses import split_host_port
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS

GRPC = "grpc://"
GRPCS = "grpcs://"
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint, as a channel needs it."""

    address: str
    """host:port, unix:PATH, or another target of gRPC's."""
    credentials: grpc.ChannelCredentials | None = None
    """Which server certificates to trust; None: the mesh's identity decides."""


def read_target(endpoint: str, tls_ca: str = "") -> Target:
    """Reads an endpoint. `tls_ca`: PEM file of the CA to trust with grpcs://; "" trusts the usual public ones.

    Raises InvalidArgument for a malformed endpoint, or a file that cannot be read.
    """
    if not endpoint.startswith(GRPCS):
        return Target(endpoint.removeprefix(GRPC))
    address = endpoint.removeprefix(GRPCS)
    try:
        split_host_port(address)
        roots = Path(tls_ca).expanduser().read_bytes() if tls_ca else None
    except ValueError as error:
        raise InvalidArgument(f"{endpoint!r} is no endpoint: {error}") from None
    except OSError as error:
        raise InvalidArgument(f"the CA's file {tls_ca!r} cannot be read: {error.strerror}") from None
    return Target(address, grpc.ssl_channel_credentials(roots))


def channel_options(endpoint: str) -> Sequence[tuple[str, int]]:
    """gRPC channel options for `endpoint`; a connection to this machine bypasses any HTTP proxy."""
    return [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)] if endpoint.startswith(_LOOPBACK) else CHANNEL_OPTIONS


def key_metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries an API key; none for an empty one."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()
