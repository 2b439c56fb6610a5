"""`infermesh up` and `down`, run as a user does, start the whole mesh and leave no process behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from infermesh_client.mesh.ports import pick_free_ports

COMMAND = [sys.executable, "-m", "infermesh_client.cli.app"]
MODEL = "smollm2-135m-instruct"
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Home:
    """A mesh with a folder and ports of its own; the models are those that all tests share."""

    root: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        environment = {**self.environment, **extra}
        result = subprocess.run(
            [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert "Traceback" not in result.stdout + result.stderr
        return result

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['INFERMESH_HTTP_PORT']}"

    @property
    def supervisor(self) -> psutil.Process:
        return psutil.Process(int((self.root / "run" / "supervisord.pid").read_text()))

    def processes(self) -> list[psutil.Process]:
        """Every process of this mesh, found by the folder in its environment, whatever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("INFERMESH_HOME") == str(self.root)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def service(self, module: str) -> psutil.Process | None:
        for process in self.processes():
            with suppress(psutil.Error):  # it has ended meanwhile
                if module in process.cmdline():
                    return process
        return None

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def wait_for(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"the condition was not met within {DEADLINE_S:.0f} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def home(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("mesh-home")
    variables = {
        "INFERMESH_HOME": str(root),
        "INFERMESH_MODELS": str(default_model.parent),
        "INFERMESH_HTTP_PORT": str(pick_free_ports(1)[0]),
        "INFERMESH_GRPC_PORT": str(pick_free_ports(1)[0]),
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
    home = Home(root, {**others, **variables})
    yield home
    home.run("down")
    assert home.processes() == []


@pytest.fixture
def mesh(home: Home) -> Home:
    """The mesh, running; it may still run from the test before."""
    if not home.answers():
        result = home.run("up")
        assert result.returncode == 0, result.stderr
    return home


def test_up_answers_a_question_and_prints_the_addresses(home: Home) -> None:
    result = home.run("up")
    assert result.returncode == 0, result.stderr
    assert re.search(r"Ready after \d+\.\d s", result.stdout)
    assert re.search(r"\d+ tokens, \d+\.\d tokens/s, TTFT \d+ ms", result.stdout)
    assert f"{home.url}/v1" in result.stdout
    assert f"127.0.0.1:{home.environment['INFERMESH_GRPC_PORT']}" in result.stdout
    assert home.answers()
    assert {path.name for path in (home.root / "log").iterdir()} >= {"worker-cpu.log", "router.log", "envoy.log"}


def test_up_again_reports_that_it_is_running(mesh: Home) -> None:
    before = {process.pid for process in mesh.processes()}
    result = mesh.run("up")
    assert result.returncode == 0
    assert "already running" in result.stdout
    assert f"{mesh.url}/v1" in result.stdout
    assert {process.pid for process in mesh.processes()} == before


def test_the_command_line_reaches_the_mesh(mesh: Home) -> None:
    (endpoint,) = json.loads(mesh.run("status", "--json").stdout)["endpoints"]
    assert endpoint["report"]["device"]["kind"] == "cpu"
    assert mesh.run("health", "--check").returncode == 0
    assert MODEL in mesh.run("models").stdout
    answer = mesh.run("chat", "Say hello.", "--max-tokens", "8")
    assert answer.returncode == 0
    assert "tokens/s" in answer.stderr
    assert f"cpu at {endpoint['address']}" in answer.stderr


def test_its_owner_manages_it_on_the_page(mesh: Home) -> None:
    address = mesh.run("ui", "--no-browser").stdout.strip()
    page, _, secret = address.partition("#manage=")
    assert page == f"{mesh.url}/"
    for headers, manages in (({}, False), ({"x-infermesh-manage-key": secret}, True)):
        assert httpx.get(f"{mesh.url}/mesh/v1/endpoints", headers=headers).json()["may_manage"] is manages


@pytest.mark.parametrize("module", ["infermesh_router", "infermesh_worker_cpu", "envoy"])
def test_a_killed_part_is_restarted(module: str, mesh: Home) -> None:
    config = str(mesh.root / "run" / "envoy.yaml")
    name = config if module == "envoy" else module
    first = mesh.service(name)
    assert first is not None
    first.kill()
    wait_for(lambda: (now := mesh.service(name)) is not None and now.pid != first.pid)
    wait_for(mesh.answers)
    assert mesh.run("chat", "Say hello.", "--max-tokens", "4").returncode == 0


def test_a_killed_supervisor_leaves_no_orphan(mesh: Home) -> None:
    family = mesh.processes()
    assert len(family) >= 5  # supervisor, worker and its engine, router, Envoy
    mesh.supervisor.kill()
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert mesh.processes() == []
    result = mesh.run("down")
    assert (result.returncode, result.stdout) == (0, "No mesh is running\n")


def test_down_leaves_nothing_and_can_be_repeated(mesh: Home) -> None:
    assert (mesh.root / "run" / "manage.key").exists()
    result = mesh.run("down")
    assert result.returncode == 0
    assert re.search(r"Stopped \d+ processes", result.stdout)
    assert mesh.processes() == []
    assert not (mesh.root / "run" / "mesh.json").exists()
    assert not (mesh.root / "run" / "manage.key").exists()
    assert mesh.run("down").returncode == 0
    status = mesh.run("status")
    assert (status.returncode, len(status.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("variable", ["INFERMESH_HTTP_PORT", "INFERMESH_GRPC_PORT"])
def test_a_taken_port_is_named(variable: str, home: Home) -> None:
    home.run("down")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(home.environment[variable])))
        taken.listen()
        result = home.run("up")
    assert result.returncode == 1
    assert f"port {home.environment[variable]} ({variable}) is taken by process {os.getpid()}" in result.stderr
    assert home.processes() == []


def test_a_part_that_fails_shows_its_log_and_stops_all(home: Home) -> None:
    home.run("down")
    result = home.run("up", INFERMESH_MESH_CONFIG="/no/such/mesh.yaml")
    assert result.returncode == 1
    assert "router ended" in result.stderr
    assert "/no/such/mesh.yaml" in result.stderr
    assert home.processes() == []


def test_a_mesh_without_a_model_loads_the_one_that_is_asked_for_later(home: Home) -> None:
    home.run("down")
    started = home.run("up", INFERMESH_MODEL="none")
    assert started.returncode == 0, started.stderr
    assert "models are loaded when a request names them" in started.stdout
    refused = home.run("up", "--workers", "cpu,xpu")
    assert (refused.returncode, "it runs worker-cpu, without worker-xpu" in refused.stderr) == (1, True)
    loaded = home.run("up", INFERMESH_MODEL=MODEL)
    assert loaded.returncode == 0, loaded.stderr
    assert f"Loaded {MODEL}" in loaded.stderr
    ((model,),) = (each["report"]["models"] for each in json.loads(home.run("status", "--json").stdout)["endpoints"])
    assert (model["name"], model["state"], model["pinned"]) == (MODEL, "READY", True)
    kept = home.run("models", "remove", MODEL)
    assert (kept.returncode, "pinned" in kept.stderr) == (1, True)


def test_ctrl_c_during_up_stops_all(home: Home) -> None:
    home.run("down")
    process = subprocess.Popen([*COMMAND, "up"], env=home.environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "waiting for the worker" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert home.processes() == []
