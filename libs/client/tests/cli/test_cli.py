"""The command `infermesh` against a real gRPC server: output, exit codes, and never a traceback."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infermesh.admin.v1 import admin_pb2
from infermesh_client.cli.app import app
from infermesh_client.cli.connection import connect
from infermesh_client.mesh.state import MeshState
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import Unavailable

COMMAND = [sys.executable, "-m", "infermesh_client.cli.app"]


@pytest.fixture
def infermesh(models_root: Path):
    """Runs the command in this process."""

    def run(*arguments: str, stdin: str | bytes | None = None):
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


def test_help_names_every_command(infermesh) -> None:
    result = infermesh("--help")
    assert result.exit_code == 0
    for name in ("up", "down", "status", "drain", "resume", "health", "chat", "models"):
        assert f"│ {name} " in result.output


def test_version(infermesh) -> None:
    assert infermesh("--version").output.startswith("infermesh ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["health"],
        ["health", "--check"],
        ["chat", "hi"],
        ["drain", "a:1"],
        ["models", "load", "m"],
    ],
)
def test_unreachable_mesh_is_one_line_and_exit_1(arguments: list[str], infermesh) -> None:
    result = infermesh(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: nothing answers at 127.0.0.1:1; `infermesh up` starts a mesh\n"


def test_status_once(mesh, infermesh) -> None:
    result = infermesh("status", "--once", "--endpoint", mesh.address)
    assert result.exit_code == 0
    for word in ("10.0.0.1:7", "cpu", "READY", "tiny", "2/1", "50%", "123"):
        assert word in result.stdout


def test_status_says_what_the_router_did_and_what_waits(mesh, infermesh, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh.servicer.queues = [admin_pb2.ModelQueue(model="tiny", waiting=3, oldest_ms=1234)]
    monkeypatch.setenv("COLUMNS", "120")
    lines = infermesh("status", "--once", "--endpoint", mesh.address).stdout.splitlines()
    assert max(map(len, lines)) <= 120
    routing = {"10.0.0.1:7", "registered", "half-open", "1", "least_loaded", "12", "56", "ms", "0.3", "12.3k", "4"}
    assert any(routing <= set(line.split()) for line in lines)
    assert any("session 3" in line for line in lines)
    assert lines[-1].strip() == "waiting: 3 for tiny (oldest 1.2 s)"
    document = json.loads(infermesh("status", "--json", "--endpoint", mesh.address).stdout)
    assert document["queues"] == [{"model": "tiny", "waiting": 3, "oldest_ms": 1234}]
    (endpoint,) = document["endpoints"]
    assert endpoint["breaker"] == "half-open"
    assert endpoint["choices"] == {"least_loaded": 12, "session": 3}
    assert (endpoint["failovers"], endpoint["source"]) == (4, "registered")
    assert (endpoint["queued_ms"], endpoint["overhead_ms"]) == pytest.approx((56.4, 0.34))


def test_drain_and_resume(mesh, infermesh) -> None:
    result = infermesh("drain", "10.0.0.1:7", "--endpoint", mesh.address)
    assert result.exit_code == 0
    assert "Drained 10.0.0.1:7: no request runs on it." in result.stderr
    result = infermesh("drain", "10.0.0.1:7", "--move-after", "1.5", "--endpoint", mesh.address)
    assert "no request runs on it; 2 streams were moved." in result.stderr
    assert infermesh("resume", "10.0.0.1:7", "--endpoint", mesh.address).exit_code == 0
    waits, moves, resumes = mesh.servicer.orders
    assert not waits.HasField("move_after_s")
    assert moves.move_after_s == 1.5
    assert resumes.address == "10.0.0.1:7"


@pytest.mark.parametrize("command", ["drain", "resume"])
def test_an_unknown_endpoint_is_refused_with_those_there_are(command: str, mesh, infermesh) -> None:
    result = infermesh(command, "x:1", "--endpoint", mesh.address)
    assert result.exit_code == 1
    assert result.stderr.endswith("error: There is no endpoint 'x:1'; there are: 10.0.0.1:7.\n")


def test_models_are_loaded_and_unloaded(mesh, infermesh) -> None:
    result = infermesh("models", "load", "tiny", "--pin", "--keep-alive", "60", "--endpoint", mesh.address)
    assert result.stderr == "Loaded tiny; unloaded to make room: other\n"
    assert infermesh("models", "unload", "tiny", "--force", "--endpoint", mesh.address).stderr == "Unloaded tiny\n"
    load, unload = mesh.servicer.orders
    assert (load.model, load.pinned, load.keep_alive_s) == ("tiny", True, 60)
    assert (unload.model, unload.force) == ("tiny", True)
    result = infermesh("models", "load", "huge", "--endpoint", mesh.address)
    assert (result.exit_code, result.stderr) == (1, "error: huge needs 9 GB, 3 GB are free\n")


def test_a_narrow_terminal_folds_no_state_and_no_address(mesh, infermesh) -> None:
    lines = infermesh("status", "--once", "--endpoint", mesh.address).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any({"10.0.0.1:7", "READY", "tiny", "2/1"} <= set(line.split()) for line in lines)


def test_the_mesh_is_found_on_the_port_it_was_started_with(
    mesh, infermesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = dict.fromkeys(("http", "router", "envoy_admin", "model"), "") | {"grpc": mesh.address}
    state = MeshState(**addresses, workers=[], metrics={})
    run = Home.of(ClientSettings()).run
    run.mkdir(parents=True)
    (run / "mesh.json").write_text(json.dumps(asdict(state)))
    assert infermesh("health").exit_code == 1  # the port that is set counts
    monkeypatch.delenv("INFERMESH_GRPC_PORT")
    assert infermesh("health").exit_code == 0


def test_status_json(mesh, infermesh) -> None:
    (endpoint,) = json.loads(infermesh("status", "--json", "--endpoint", mesh.address).stdout)["endpoints"]
    assert endpoint["report"]["state"] == "READY"
    assert endpoint["report"]["load"]["running"] == 2


def test_health_check(mesh, infermesh) -> None:
    assert infermesh("health", "--check", "--endpoint", mesh.address).exit_code == 0
    mesh.servicer.state = 1
    result = infermesh("health", "--check", "--json", "--endpoint", mesh.address)
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (1, "LOADING")
    assert infermesh("health", "--endpoint", mesh.address).exit_code == 0


def test_models(mesh, infermesh, tiny_gguf: Path, models_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh_client.model_import.convert.entry_points", lambda group: [])
    result = infermesh("models", "import", str(tiny_gguf), "--name", "tiny")
    assert result.exit_code == 0, result.output
    assert "Imported tiny" in result.stderr
    document = json.loads(infermesh("models", "list", "--json", "--endpoint", mesh.address).stdout)
    assert [model["name"] for model in document["served"]] == ["tiny"]
    assert [model["path"] for model in document["on_disk"]] == [str(models_root / "tiny")]
    assert "READY" in infermesh("models", "--endpoint", mesh.address).stdout
    assert json.loads(infermesh("models", "--json").stdout)["served"] is None
    assert infermesh("models", "remove", "tiny").exit_code == 0
    assert infermesh("models", "remove", "tiny").exit_code == 1


def test_chat_one_shot(mesh, infermesh) -> None:
    options = ["--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "--model", "tiny"]
    result = infermesh("chat", "hi", *options, "--endpoint", mesh.address)
    assert (result.exit_code, result.stdout) == (0, "Hello, world!\n")
    for word in ("4 tokens", "TTFT", "tokens/s", "cpu at 10.0.0.1:7"):
        assert word in result.stderr
    (request,) = mesh.servicer.requests
    assert [(m.role, m.content) for m in request.chat.messages] == [("system", "Be brief."), ("user", "hi")]
    assert (request.model, request.stop.max_tokens, request.sampling.temperature) == ("tiny", 9, 0.0)


def test_chat_reads_a_pipe(mesh, infermesh) -> None:
    result = infermesh("chat", "--endpoint", mesh.address, stdin="what\nis this\n")
    assert result.stdout == "Hello, world!\n"
    assert mesh.servicer.requests[0].chat.messages[0].content == "what\nis this"
    assert infermesh("chat", "--endpoint", mesh.address, stdin="  \n").exit_code == 1


def test_chat_refuses_what_is_no_text(mesh, infermesh) -> None:
    for result in (
        infermesh("chat", "--endpoint", mesh.address, stdin=b"\xff\xd8\0binary"),
        infermesh("chat", "a\udcff", "--endpoint", mesh.address),
    ):
        assert (result.exit_code, result.stderr) == (1, "error: the prompt is not UTF-8 text\n")


def test_chat_error_of_the_endpoint(mesh, infermesh) -> None:
    result = infermesh("chat", "hi", "--device", "gpu", "--endpoint", mesh.address)
    assert result.exit_code == 1
    assert result.stderr == "error: there is no gpu; there are: cpu\n"


def test_unknown_variable_stops_it(infermesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_HTPP_PORT", "1")
    result = infermesh("status")
    assert result.exit_code == 2
    assert "INFERMESH_HTPP_PORT" in result.stderr


def test_malformed_variable_stops_it(infermesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_GRPC_PORT", "many")
    result = infermesh("status")
    assert result.exit_code == 2
    assert "INFERMESH_GRPC_PORT" in result.stderr


def test_down_when_nothing_runs(infermesh) -> None:
    result = infermesh("down")
    assert (result.exit_code, result.stdout) == (0, "No mesh is running\n")


def test_up_with_an_unknown_worker(infermesh) -> None:
    result = infermesh("up", "--workers", "cpu,tpu")
    assert result.exit_code == 1
    assert "unknown worker 'tpu'; choose from cpu" in result.stderr


def test_up_with_a_model_that_is_not_there(infermesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_MODEL", "nope")
    monkeypatch.setattr("infermesh_client.cli.up.check_startable", lambda *_: None)
    result = infermesh("up")
    assert result.exit_code == 1
    assert "no model 'nope' (INFERMESH_MODEL)" in result.stderr


def test_unexpected_error_is_one_line_and_its_traceback_is_kept(
    infermesh, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("impossible")

    monkeypatch.setattr("infermesh_client.cli.up.stop_mesh", fail)
    monkeypatch.setattr("infermesh_client.cli.up.drain_s", fail)
    result = infermesh("down")
    assert result.exit_code == 1
    assert "unexpected RuntimeError: impossible" in result.stderr
    assert "Traceback" in (models_root.parent / "log" / "command.log").read_text()


def test_output_to_a_closed_pipe(mesh, models_root: Path) -> None:
    script = f"{sys.executable} -m infermesh_client.cli.app status --json --endpoint {mesh.address} | true"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


class Terminal:
    """The command on a pseudo-terminal, as a user has it."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str) -> str:
        """What came up to and with `text`."""
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], 20)
            assert ready, f"{text!r} did not come after {self.seen!r}"
            self.seen += os.read(self._master, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait(self) -> int:
        """The exit code, once it ends."""
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def open_terminal(models_root: Path):
    with ExitStack() as stack:

        def open_one(*arguments: str) -> Terminal:
            terminal = Terminal(*arguments)
            stack.callback(terminal.close)
            return terminal

        yield open_one


def test_chat_on_a_terminal(mesh, open_terminal) -> None:
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("first\n")
    assert "Hello, world!" in terminal.read_until("tokens/s")
    terminal.read_until("> ")
    mesh.servicer.endless = True
    terminal.type("second\n")
    terminal.read_until("Hello, world!")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("stopped")
    assert mesh.servicer.cancelled.wait(5)
    terminal.read_until("> ")
    mesh.servicer.endless = False
    terminal.type("third\n")
    terminal.read_until("tokens/s")
    terminal.read_until("> ")
    terminal.type("/clear\n")
    terminal.read_until("> ")
    terminal.type("fourth\n")
    terminal.read_until("tokens/s")
    terminal.read_until("> ")
    terminal.type("\x04")
    assert terminal.wait() == 0
    third, fourth = mesh.servicer.requests[2:]
    assert [m.content for m in third.chat.messages] == ["first", "Hello, world!", "second", "Hello, world!", "third"]
    assert [m.content for m in fourth.chat.messages] == ["fourth"]


def test_chat_goes_on_after_an_error(mesh, open_terminal) -> None:
    terminal = open_terminal("chat", "--device", "gpu", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("first\n")
    terminal.read_until("there is no gpu")
    terminal.read_until("> ")
    terminal.type("/exit\n")
    assert terminal.wait() == 0


def test_status_follows_on_a_terminal(mesh, open_terminal) -> None:
    terminal = open_terminal("status", "--endpoint", mesh.address)
    terminal.read_until("READY")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0


def test_a_lost_worker_that_the_router_tells_of_is_not_a_lost_mesh() -> None:
    told = Unavailable("Endpoint a:1 is lost (failed to connect to all addresses).", reason="ENDPOINT_LOST")
    with pytest.raises(Unavailable, match="Endpoint a:1 is lost"), connect("b:2", ClientSettings(), timeout_s=1):
        raise told
