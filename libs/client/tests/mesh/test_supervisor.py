"""The supervisor with real processes: started, restarted, stopped, and no orphan even when it is killed."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infermesh_client.mesh.plan import Service
from infermesh_client.mesh.ready import wait_until_ready
from infermesh_client.mesh.state import MeshState
from infermesh_client.mesh.stop import stop_mesh
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.settings import Home
from infermesh_runtime.errors import DeadlineExceeded, FailedPrecondition

SLEEPER = [sys.executable, "-c", "import os, signal; print(os.environ['SAY'], os.getpid(), flush=True); signal.pause()"]
NOWHERE = MeshState(
    http="127.0.0.1:1", grpc="127.0.0.1:1", router="127.0.0.1:1", workers=[], metrics={}, envoy_admin="", model=""
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home whose name wants quoting everywhere."""
    root = tmp_path / "ho me %d \"quoted' ;comment \\\n[new line] = \udcff"
    home = Home(root, root / "models")
    yield home
    stop_mesh(home, wait_s=5)


def sleepers(*names: str) -> list[Service]:
    return [
        Service(name, SLEEPER, {"SAY": f'I am {name}, 100% \u00fc "; \\'}, order) for order, name in enumerate(names)
    ]


def start(home: Home, services: list[Service]) -> tuple[Supervisor, "subprocess.Popen[bytes]"]:
    supervisor = Supervisor(home)
    return supervisor, supervisor.start(services, stop_wait_s=5)


def wait_for(condition: Callable[[], object], deadline_s: float = 20) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.05)


def pids(supervisor: Supervisor) -> dict[str, int]:
    """Of the services that run; empty while the supervisor does not answer."""
    try:
        return {process.name: process.pid for process in supervisor.processes() if process.pid}
    except OSError:
        return {}


def test_services_run_with_their_environment_and_logs(home: Home) -> None:
    supervisor, process = start(home, sleepers("one", "two"))
    wait_for(
        lambda: (
            supervisor.log_of("two").is_file()
            and 'I am two, 100% \u00fc "; \\ ' in supervisor.log_of("two").read_text()
        )
    )
    assert supervisor.pid() == process.pid
    family = [psutil.Process(pid) for pid in pids(supervisor).values()]
    assert stop_mesh(home, wait_s=20) == 3
    assert not any(member.is_running() for member in family)
    assert process.wait(5) == 0
    assert stop_mesh(home, wait_s=5) == 0
    assert not supervisor.socket.exists()


def test_a_dead_service_is_restarted(home: Home) -> None:
    supervisor, process = start(home, sleepers("one"))
    wait_for(lambda: "one" in pids(supervisor))
    first = pids(supervisor)["one"]
    psutil.Process(first).kill()
    wait_for(lambda: pids(supervisor).get("one", first) != first)
    stop_mesh(home, wait_s=20)
    process.wait(5)


def test_a_killed_supervisor_leaves_no_orphan(home: Home) -> None:
    supervisor, process = start(home, sleepers("one", "two", "three"))
    wait_for(lambda: len(pids(supervisor)) == 3)
    family = [psutil.Process(pid) for pid in pids(supervisor).values()]
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert not supervisor.is_running()
    assert stop_mesh(home, wait_s=5) == 0


def test_a_supervisor_that_hangs_is_stopped_too(home: Home) -> None:
    supervisor, process = start(home, sleepers("one"))
    wait_for(lambda: "one" in pids(supervisor))
    service = psutil.Process(pids(supervisor)["one"])
    process.send_signal(signal.SIGSTOP)
    assert stop_mesh(home, wait_s=1, started_pid=process.pid) == 2
    process.wait(5)
    assert not psutil.pid_exists(process.pid)
    assert psutil.wait_procs([service], timeout=5)[1] == []


def test_a_young_supervisor_is_stopped(home: Home) -> None:
    _, process = start(home, sleepers("one"))
    assert stop_mesh(home, wait_s=20, started_pid=process.pid) >= 1
    process.wait(5)
    assert pids(Supervisor(home)) == {}


def test_a_service_that_ends_fails_the_start_with_its_log(home: Home) -> None:
    broken = Service("broken", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], {}, 1)
    supervisor, process = start(home, [*sleepers("one"), broken])
    with pytest.raises(FailedPrecondition, match=r"(?s)broken ended.*the reason"):
        asyncio.run(wait_until_ready(NOWHERE, supervisor, deadline_s=20, show_status=lambda text: None))
    stop_mesh(home, wait_s=20, started_pid=process.pid)
    process.wait(5)


def test_the_log_of_an_earlier_start_is_not_quoted(home: Home) -> None:
    home.log.mkdir(parents=True)
    (home.log / "broken.log").write_text("yesterday's reason\n")
    broken = Service("broken", [sys.executable, "-c", "print('today'); raise SystemExit(3)"], {}, 1)
    supervisor, process = start(home, [broken])
    with pytest.raises(FailedPrecondition, match=r"(?s)broken ended.*today") as failed:
        asyncio.run(wait_until_ready(NOWHERE, supervisor, deadline_s=20, show_status=lambda text: None))
    assert "yesterday" not in failed.value.message
    stop_mesh(home, wait_s=20, started_pid=process.pid)
    process.wait(5)


def test_a_supervisor_that_cannot_start_fails_the_start_with_its_log(home: Home) -> None:
    """supervisord refuses a configuration with this name and exits."""
    supervisor, process = start(home, sleepers("one:two"))
    with pytest.raises(FailedPrecondition, match=r"(?s)the supervisor ended.*Invalid name"):
        asyncio.run(wait_until_ready(NOWHERE, supervisor, deadline_s=60, show_status=lambda text: None))
    assert process.returncode == 2


def test_the_settings_of_a_service_are_its_users_alone(home: Home) -> None:
    _, process = start(home, sleepers("one"))
    assert (home.run / "services" / "one.json").stat().st_mode & 0o777 == 0o600
    stop_mesh(home, wait_s=20, started_pid=process.pid)
    process.wait(5)


def test_the_deadline(home: Home) -> None:
    supervisor, process = start(home, sleepers("one"))
    with pytest.raises(DeadlineExceeded, match="not ready within"):
        asyncio.run(wait_until_ready(NOWHERE, supervisor, deadline_s=1, show_status=lambda text: None))
    stop_mesh(home, wait_s=20, started_pid=process.pid)
    process.wait(5)


def test_a_long_home_has_its_socket_elsewhere(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 120), tmp_path)
    supervisor, process = start(home, sleepers("one"))
    wait_for(supervisor.is_running)
    assert len(str(supervisor.socket)) < 100
    stop_mesh(home, wait_s=20)
    process.wait(5)
