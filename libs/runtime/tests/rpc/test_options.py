"""gRPC ignores unknown options silently, so these tests check that it knows ours."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from infermesh_runtime.rpc.options import CHANNEL_OPTIONS, SERVER_OPTIONS


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in (*CHANNEL_OPTIONS, *SERVER_OPTIONS)}))
def test_every_option_is_one_that_grpc_reads(library: bytes, name: str) -> None:
    assert f"{name}\0".encode() in library
