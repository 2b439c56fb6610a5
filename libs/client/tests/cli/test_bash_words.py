"""What bash completes in words with colons, which it splits there."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from infermesh_client.cli.completion.bash_words import join_words
from infermesh_client.mesh.state import MeshState

WORKERS = ("127.0.0.1:50921", "127.0.0.1:6007", "unix:/run/w.sock")


@pytest.mark.parametrize(
    ("split", "offered"),
    [
        (["drain", "127"], ["127.0.0.1:50921", "127.0.0.1:6007"]),
        (["drain", "127.0.0.1", ":"], ["50921", "6007"]),
        (["drain", "127.0.0.1", ":", "5"], ["50921"]),
        (["drain", "unix", ":"], ["/run/w.sock"]),
        (["chat", "--device", "127.0.0.1", ":", "6"], ["6007"]),
        (["chat", "--device", "127.0.0.1", ":", "6007", "--mod"], ["--model"]),
    ],
)
def test_addresses_are_completed_in_bash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: list[str], offered: list[str]
) -> None:
    state = MeshState(http="", grpc="", router="", workers=WORKERS, metrics={}, envoy_admin="", model="")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mesh.json").write_text(json.dumps(asdict(state)))
    monkeypatch.setenv("INFERMESH_HOME", str(tmp_path))
    monkeypatch.setenv("_INFERMESH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["infermesh", *split]))
    monkeypatch.setenv("COMP_CWORD", str(len(split)))
    program = "import sys; sys.argv = ['infermesh']; from infermesh_client.cli.app import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == offered


@pytest.mark.parametrize(
    ("split", "current", "joined"),
    [
        (["i", "a", ":", "1", "b"], 4, (["i", "a:1", "b"], 2)),
        (["i", "a", ":", "1", "b"], 3, (["i", "a:1", "b"], 1)),
        (["i", "a", ":", "1", ""], 4, (["i", "a:1", ""], 2)),
        (["i", "[", "::", "1]", ":", "5"], 5, (["i", "[::1]:5"], 1)),
        (["i"], 1, (["i"], 1)),
    ],
)
def test_words_are_joined_around_colons(split: list[str], current: int, joined: tuple[list[str], int]) -> None:
    assert join_words(split, current) == joined
