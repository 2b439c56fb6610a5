"""A mesh on one machine becomes one with keys while it runs, and stays one."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from infermesh_client.mesh.ports import pick_free_ports
from tests.e2e.test_up_down import MODEL, Home, wait_for


@pytest.fixture
def home(default_model: Path, tmp_path: Path) -> Iterator[Home]:
    variables = {
        "INFERMESH_HOME": str(tmp_path),
        "INFERMESH_MODELS": str(default_model.parent),
        "INFERMESH_HTTP_PORT": str(pick_free_ports(1)[0]),
        "INFERMESH_GRPC_PORT": str(pick_free_ports(1)[0]),
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
    home = Home(tmp_path, {**others, **variables})
    yield home
    home.run("down")
    assert home.processes() == []


def list_models(home: Home, key: str) -> int:
    """The status of a request with this key; "" sends none."""
    return httpx.get(f"{home.url}/v1/models", headers={"x-api-key": key} if key else {}, timeout=5).status_code


def test_keys_come_and_go_while_the_mesh_runs(home: Home) -> None:
    started = home.run("up")
    assert started.returncode == 0, started.stderr
    assert list_models(home, "") == list_models(home, "any") == 200

    key = home.run("keys", "create", "alice").stdout.strip()
    wait_for(lambda: list_models(home, "") == 401)
    assert (list_models(home, "any"), list_models(home, key)) == (401, 200)
    with openai.OpenAI(base_url=f"{home.url}/v1", api_key=key, max_retries=0) as client:
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4

    assert home.run("status", "--json").returncode == 0
    assert home.run("health", "--check").returncode == 0
    chat = ("chat", "Say hello.", "--max-tokens", "4")
    assert home.run(*chat).returncode == 0  # by the operators' socket, which only this user can open
    public = ("--endpoint", f"127.0.0.1:{home.environment['INFERMESH_GRPC_PORT']}")
    refused = home.run(*chat, *public)
    assert (refused.returncode, "API key" in refused.stderr) == (1, True)
    assert home.run(*chat, *public, INFERMESH_API_KEY=key).returncode == 0

    assert home.run("keys", "revoke", "alice").returncode == 0
    wait_for(lambda: list_models(home, key) == 401)
    (home.root / "keys.json").unlink()
    assert list_models(home, "") == 401


@pytest.mark.parametrize("with_key", [False, True])
def test_up_with_keys(home: Home, with_key: bool) -> None:
    key = home.run("keys", "create", "alice").stdout.strip()
    started = home.run("up", **({"INFERMESH_API_KEY": key} if with_key else {}))
    assert started.returncode == 0, started.stderr
    assert ("tokens/s" in started.stdout) is with_key
    assert ("set INFERMESH_API_KEY" in started.stdout) is not with_key
    assert home.answers()
