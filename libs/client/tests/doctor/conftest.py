"""A server whose answers a test chooses, and doctor's connection to it."""

from collections.abc import Iterator

import httpx
import pytest

from infermesh_client.doctor.server import Server
from libs.client.tests.doctor.fake_server import FakeServer, fake_server


@pytest.fixture(scope="module")
def running() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def fake(running: FakeServer) -> FakeServer:
    """The server, with nothing remembered of other tests."""
    running.bodies.clear()
    running.paths.clear()
    running.headers.clear()
    return running


@pytest.fixture
def server(fake: FakeServer) -> Iterator[Server]:
    with httpx.Client(trust_env=False) as client:
        yield Server(client, fake.url, timeout_s=5)
