"""`infermesh keys`: what it writes, what it shows, and that it loses nothing."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from infermesh_client.cli.access.keys import lacks_key
from infermesh_client.mesh.first_prompt import ask
from infermesh_client.settings import ClientSettings
from infermesh_runtime.api_keys import hash_secret, read_keys
from infermesh_runtime.errors import Unavailable
from libs.client.tests.cli.conftest import COMMAND, RunCommand
from libs.client.tests.conftest import RunningMesh


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the command writes, in a folder that does not exist yet."""
    monkeypatch.setenv("INFERMESH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "keys.json"


def test_a_key_is_shown_once_and_kept_as_a_hash(infermesh: RunCommand, path: Path) -> None:
    result = infermesh("keys", "create", "alice")
    text = result.stdout.strip()
    assert len(text) > 40
    assert "Created the key 'alice'" in result.stderr
    assert "From now on" in result.stderr
    (key,) = read_keys(path)
    assert (key.name, key.sha256, key.models, key.expires) == ("alice", hash_secret(text).hex(), (), None)
    assert text not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert text not in infermesh("keys", "list").output + infermesh("keys", "list", "--json").output
    second = infermesh("keys", "create", "bob")
    assert second.stdout.strip() != text
    assert "From now on" not in second.stderr


def test_what_a_key_allows(infermesh: RunCommand, path: Path) -> None:
    limits = ("--max-priority", "5", "--requests-per-minute", "60", "--tokens-per-minute", "90000")
    allowed = ("--models", "m, n", "--devices", "gpu,cpu", *limits, "--expires", "2030-01-02T03:04:05")
    assert infermesh("keys", "create", "a", *allowed).exit_code == 0
    (key,) = read_keys(path)
    assert (key.models, key.devices, key.max_priority) == (("m", "n"), ("gpu", "cpu"), 5)
    assert (key.requests_per_minute, key.tokens_per_minute) == (60, 90000)
    assert key.expires == datetime(2030, 1, 2, 3, 4, 5).astimezone(UTC)
    (listed,) = json.loads(infermesh("keys", "list", "--json").stdout)
    assert (listed["name"], listed["state"], listed["models"]) == ("a", "valid", ["m", "n"])
    assert "sha256" not in listed
    assert "2030-01-02" in infermesh("keys", "list").stdout


def test_a_key_may_be_made_to_manage_the_mesh(infermesh: RunCommand, path: Path) -> None:
    infermesh("keys", "create", "a")
    infermesh("keys", "create", "boss", "--admin")
    assert [(key.name, key.admin) for key in read_keys(path)] == [("a", False), ("boss", True)]
    listed = infermesh("keys", "list").stdout
    assert listed.count("(admin)") == 1


def test_a_revoked_key_stays_in_the_list_until_its_name_is_used_again(infermesh: RunCommand, path: Path) -> None:
    infermesh("keys", "create", "a")
    assert "already" in infermesh("keys", "create", "a").stderr
    assert infermesh("keys", "revoke", "a").stderr == "Revoked a\n"
    assert "revoked" in infermesh("keys", "list").stdout
    result = infermesh("keys", "revoke", "a")
    assert (result.exit_code, result.stderr) == (1, "error: There is no key 'a' to revoke; there are: none.\n")
    assert infermesh("keys", "create", "a").exit_code == 0
    (key,) = read_keys(path)
    assert key.revoked is None


def test_an_expired_key_is_shown_as_such(infermesh: RunCommand, path: Path) -> None:
    infermesh("keys", "create", "a", "--expires", "2020-01-01")
    assert "expired" in infermesh("keys", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("b b",), "letters, digits"),
        (("",), "letters, digits"),
        (("b", "--devices", "tpu"), "are cpu, gpu, xpu and cuda"),
        (("b", "--max-priority", "9999999999"), "from -2147483648 to 2147483647"),
        (("b", "--requests-per-minute", "0"), "greater than or"),
        (("b", "--expires", "tomorrow"), "tomorrow"),
    ],
)
def test_bad_keys(infermesh: RunCommand, path: Path, arguments: tuple[str, ...], told: str) -> None:
    result = infermesh("keys", "create", *arguments)
    assert result.exit_code != 0
    assert told in result.stderr
    assert not path.exists()


def test_a_damaged_file_is_left_alone(infermesh: RunCommand, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{")
    for arguments in (("create", "a"), ("list",), ("revoke", "a")):
        result = infermesh("keys", *arguments)
        assert (result.exit_code, str(path) in result.stderr) == (1, True)
    assert path.read_text() == "{"


def test_a_file_elsewhere(infermesh: RunCommand, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INFERMESH_KEYS_FILE", str(tmp_path / "other.json"))
    infermesh("keys", "create", "a")
    assert not path.exists()
    assert len(read_keys(tmp_path / "other.json")) == 1


def test_commands_at_once_lose_no_key(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from infermesh_client.key_store import create_key\n"
        "for i in range(20): create_key(Path(sys.argv[1]), f'{sys.argv[2]}-{i}')"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(read_keys(path)) == 60


def test_help_needs_no_mesh(path: Path) -> None:
    shown = subprocess.run([*COMMAND, "keys", "--help"], capture_output=True, text=True, check=True).stdout
    assert {"create", "list", "revoke"} <= set(shown.split())


def test_chat_sends_the_users_key(
    mesh: RunningMesh, infermesh: RunCommand, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_API_KEY", "im-secret")
    assert infermesh("chat", "hi", "--endpoint", mesh.address).exit_code == 0
    assert mesh.servicer.keys == ["Bearer im-secret"]


def test_up_knows_that_it_lacks_a_key(infermesh: RunCommand, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lacks_key(ClientSettings())
    infermesh("keys", "create", "a")
    assert lacks_key(ClientSettings())
    monkeypatch.setenv("INFERMESH_API_KEY", "im-secret")
    assert not lacks_key(ClientSettings())


def test_the_first_prompt_has_the_key() -> None:
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers.get("authorization"))
            self.send_error(401, "no")

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(Unavailable, match="401"):
            ask(
                f"http://127.0.0.1:{server.server_port}",
                "m",
                "hi",
                chat=True,
                max_tokens=1,
                write=print,
                api_key="im-secret",
            )
        thread.join()
    assert seen == ["Bearer im-secret"]


def test_keys_are_lines_on_a_narrow_terminal(
    infermesh: RunCommand, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    infermesh("keys", "create", "ada", "--models", "qwen2.5-coder-1.5b-instruct", "--admin")
    lines = [" ".join(line.split()) for line in infermesh("keys", "list").stdout.splitlines()]
    assert {"ada (admin) valid", "models qwen2.5-coder-1.5b-instruct", "limits a minute none"} <= set(lines)
