"""The Node openai package and Vercel's AI SDK skip the comments of a stream whose model loads slowly."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.clients.running import DEV_VENV, ROOT
from tests.clients.test_node import FOLDER, install

LOAD_S = 0.5
"""Five comments."""


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a mesh that loads the model m in that time."""
    command = [str(DEV_VENV / "bin" / "python"), "-m", "tests.conformance.slow_mesh", str(LOAD_S)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mesh:
        assert mesh.stdout is not None
        yield mesh.stdout.readline().strip()
        mesh.communicate(timeout=30)
    assert mesh.returncode == 0


def test_clients_in_node_skip_comments(url: str) -> None:
    install()
    command = ["node", "slow_load.mjs", url, "m"]
    done = subprocess.run(command, cwd=FOLDER, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(("chat", "completion", "responses", "ai"), "Hello world")
