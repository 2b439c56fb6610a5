"""What both clients share: the default endpoint, and gRPC's errors as classes of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from infermesh_runtime.rpc.status import from_rpc_error

DEFAULT_ENDPOINT = "127.0.0.1:8081"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises what gRPC raises in the block as a class of infermesh_runtime.errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
