"""What both clients need to connect: the default endpoint, channel options, the key's metadata, errors by class."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.rpc.status import from_rpc_error

DEFAULT_ENDPOINT = "127.0.0.1:8081"
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


def channel_options(endpoint: str) -> Sequence[tuple[str, int]]:
    """gRPC channel options for `endpoint`; a connection to this machine bypasses any HTTP proxy."""
    return [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)] if endpoint.startswith(_LOOPBACK) else CHANNEL_OPTIONS


def key_metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries an API key; none for an empty one."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises what gRPC raises in the block as a class of infermesh_runtime.errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
