"""A server with a second address: a unix socket with services of its own, for this user only."""

import os
import socket
import stat
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh_runtime.addresses import grpc_target
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.rpc.server import Server


def build(path: Path) -> Server:
    server = Server(listen="127.0.0.1:0", drain_s=0)
    server.add_listener(f"unix:{path}")
    return server


async def is_answered(path: Path) -> bool:
    async with grpc.aio.insecure_channel(grpc_target(f"unix:{path}")) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_only_this_user_can_open_it_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "ho me 100%" / "s.sock"  # its folder is made
    before = os.umask(0)
    try:
        server = build(path)
        await server.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(before)
    assert await is_answered(path)
    await server.stop()


async def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    server = build(path)
    await server.start()
    assert await is_answered(path)
    await server.stop()


async def test_a_socket_in_use_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = build(path)
    await first.start()
    with pytest.raises(FailedPrecondition, match="another process serves this socket"):
        await build(path).start()
    assert await is_answered(path)
    await first.stop()
