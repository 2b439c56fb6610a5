"""A client of the REST API can tell a stream that was cut from one that is complete, whatever cut it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.mesh import SIMULATED, Mesh, NewMesh

BODY = {
    "model": "simulated",
    "messages": [{"role": "user", "content": "go on"}],
    "stream": True,
    "max_tokens": 4000,
}


@contextmanager
def long_stream(mesh: Mesh, **headers: str) -> Iterator[Iterator[str]]:
    """The events of a stream that takes minutes, after its first one has come."""
    with mesh.http() as http, http.stream("POST", "/v1/chat/completions", json=BODY, headers=headers) as response:
        assert response.status_code == 200
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line)
        next(lines)
        yield lines


def last_two(lines: Iterator[str]) -> tuple[dict[str, Any], str]:
    *_, before, last = lines
    return json.loads(before), last


@pytest.fixture
def slow_mesh(new_mesh: NewMesh) -> Mesh:
    mesh = new_mesh([(SIMULATED, {"sim_itl_s": 0.05, "drain_s": 0.5})], drain_s=0.5, failover_wait_s=0.5)
    mesh.start()
    mesh.wait_ready()
    return mesh


@pytest.mark.parametrize(
    "cut",
    [lambda mesh: mesh.router.stop(), lambda mesh: mesh.workers[0].stop(), lambda mesh: mesh.workers[0].kill()],
    ids=["the router stops", "the worker stops", "the worker is killed"],
)
def test_a_stop_is_an_error_event(cut: Callable[[Mesh], None], slow_mesh: Mesh) -> None:
    with long_stream(slow_mesh) as lines:
        cut(slow_mesh)
        error, done = last_two(lines)
    assert error["error"]["message"]
    assert done == "[DONE]"


def test_a_deadline_is_an_error_event(slow_mesh: Mesh) -> None:
    with long_stream(slow_mesh, **{"grpc-timeout": "3S"}) as lines:
        error, done = last_two(lines)
    assert (error["error"]["code"], done) == ("deadline_exceeded", "[DONE]")


def test_a_killed_router_breaks_the_connection(slow_mesh: Mesh) -> None:
    with long_stream(slow_mesh) as lines:
        slow_mesh.router.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
