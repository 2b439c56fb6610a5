"""The mesh that tritonclient asks, and its clients."""

import json
import subprocess
from collections.abc import Iterator

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from tests.clients.running import DEV_VENV, ROOT, START_S
from tests.clients.triton.client import Kind


@pytest.fixture(scope="session")
def mesh() -> Iterator[dict[str, str]]:
    """Where the mesh of tensor_mesh is: "http", "grpc" and "admin"."""
    command = [str(DEV_VENV / "bin" / "python"), "-m", "tests.clients.triton.tensor_mesh"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield {name: address.removeprefix("http://") for name, address in told.items()}
    finally:
        process.stdin.close()
        process.wait(START_S)
        process.stdout.close()


@pytest.fixture(scope="session", params=["grpc", "http"])
def kind(request: pytest.FixtureRequest, mesh: dict[str, str]) -> Iterator[Kind]:
    made = Kind({"grpc": grpc_client, "http": http_client}[request.param], mesh[request.param])
    yield made
    made.client.close()


@pytest.fixture(scope="session")
def over_grpc(mesh: dict[str, str]) -> Iterator[Kind]:
    made = Kind(grpc_client, mesh["grpc"])
    yield made
    made.client.close()


@pytest.fixture(scope="session")
def over_http(mesh: dict[str, str]) -> Iterator[Kind]:
    made = Kind(http_client, mesh["http"])
    yield made
    made.client.close()
