"""Where the command connects, and to whom it shows the mesh's token."""

import asyncio
import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.cli.connection import _identity, _own_mesh, beside
from infermesh_client.cli.models import loading
from infermesh_client.client import Client
from infermesh_client.mesh.state import remove_state
from infermesh_client.mesh.token import own_token, write_token
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import DeadlineExceeded
from infermesh_runtime.rpc.identity import MeshIdentity
from libs.client.tests.conftest import RunningMesh

STATE = '{{"http": "", "grpc": "127.0.0.1:{port}", "router": "", "workers": [], "metrics": {{}}, "envoy_admin": "", '
STATE += '"model": "", "admin": "unix:/run/admin.sock"}}'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("INFERMESH_HOME", str(tmp_path))
    monkeypatch.delenv("INFERMESH_GRPC_PORT", raising=False)
    home = Home.of(ClientSettings())
    home.run.mkdir()
    (home.run / "mesh.json").write_text(STATE.format(port=9001))
    return home


def test_the_admin_address_of_the_running_mesh(home: Home) -> None:
    assert _own_mesh(ClientSettings()) == "unix:/run/admin.sock"
    assert _own_mesh(ClientSettings(grpc_port=9001)) == "unix:/run/admin.sock"  # that of this mesh
    assert _own_mesh(ClientSettings(grpc_port=9002)) == "127.0.0.1:9002"
    remove_state(home)
    assert _own_mesh(ClientSettings()) == "127.0.0.1:8081"


def test_the_mesh_s_own_token_stays_on_this_machine(home: Home) -> None:
    write_token(ClientSettings(), home)
    assert _identity("127.0.0.1:9", ClientSettings()).token == own_token(home) != ""
    for address in ("10.0.0.1:9", "dns:///localhost:9", "localhost.evil.example:9", "unix:/run/admin.sock"):
        assert _identity(address, ClientSettings()).token == ""


def test_a_token_that_is_set_is_shown_to_the_address_that_is_given(home: Home) -> None:
    assert _identity("10.0.0.1:9", ClientSettings(mesh_token="ours")).token == "ours"


async def test_a_connection_beside_another_is_like_it() -> None:
    identity = MeshIdentity(token="ours")
    with Client("127.0.0.1:9", timeout_s=7, api_key="key", identity=identity) as client:
        async with beside(client) as own:
            assert (own.endpoint, own.timeout_s, own.api_key) == ("127.0.0.1:9", 7, "key")
            assert (own.identity, own.tls_ca) == (identity, client.tls_ca)


async def test_a_load_that_is_shown_ends_at_its_client_s_timeout(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.servicer.may_answer = threading.Event()
    monkeypatch.setattr(loading, "error_console", lambda: Console(file=io.StringIO(), force_terminal=True))
    try:
        with Client(mesh.address, timeout_s=0.1) as client, pytest.raises(DeadlineExceeded):
            await asyncio.to_thread(loading.load_and_show, client, "tiny", pinned=False, keep_alive_s=None, device="")
    finally:
        mesh.servicer.may_answer.set()
