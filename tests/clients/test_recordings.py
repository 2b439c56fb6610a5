"""The recordings that `infermesh doctor` replays are what the clients of this lane send now (`make recordings`)."""

import json
from typing import Any

import pytest

from tests.clients.node_recordings import PACKAGES, record_node
from tests.clients.recorded_calls import CLIENTS
from tests.clients.test_node import install
from tests.conformance.recording.record import Client, path_of, record, without_expectations


def kept(name: str) -> Any:
    """The requests in the client's file."""
    return without_expectations(json.loads(path_of(name).read_text(encoding="utf-8")))["requests"]


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_python(client: Client) -> None:
    assert record(client)["requests"] == kept(client.name)


def test_node() -> None:
    install()
    recordings = {each["client"]: each["requests"] for each in record_node()}
    assert recordings == {name: kept(name) for name in PACKAGES}
