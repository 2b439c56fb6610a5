"""Fixtures of the clients' lane: one mesh for all clients, and for each client the URL at which it finds the mesh.

`make record-clients` sets INFERMESH_RECORD: then a proxy between each client and the mesh writes down what it sends,
for `infermesh doctor`. INFERMESH_TEST_MESH_URL names a mesh that already runs, so that writing tests needs no new one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.clients.recorder import Recorder
from tests.clients.running import running_mesh

UrlOf = Callable[[str], str]
"""The base URL, without /v1, at which the client of this name finds the mesh."""


@pytest.fixture(scope="session")
def mesh_url() -> Iterator[str]:
    """The mesh itself."""
    if running := os.environ.get("INFERMESH_TEST_MESH_URL"):
        yield running
        return
    with running_mesh() as url:
        yield url


@pytest.fixture(scope="session")
def url_of(mesh_url: str) -> Iterator[UrlOf]:
    """Where each client finds the mesh: directly, or through a recorder of its own."""
    if not os.environ.get("INFERMESH_RECORD"):
        yield lambda _: mesh_url
        return
    with ExitStack() as stopping:
        recorders: dict[str, Recorder] = {}

        def through_recorder(client: str) -> str:
            if client not in recorders:
                recorders[client] = stopping.enter_context(Recorder(client, mesh_url))
            return recorders[client].url

        yield through_recorder
