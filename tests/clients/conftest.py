"""The mesh that all clients of this lane ask.

INFERMESH_TEST_MESH_URL names a mesh that already runs, so that writing tests needs no new one.
"""

import os
from collections.abc import Iterator

import pytest

from tests.clients.running import running_mesh


@pytest.fixture(scope="session")
def mesh_url() -> Iterator[str]:
    """The base URL of its REST API, without /v1."""
    if running := os.environ.get("INFERMESH_TEST_MESH_URL"):
        yield running
        return
    with running_mesh() as url:
        yield url
