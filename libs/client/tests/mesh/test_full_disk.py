"""A mesh whose logs cannot be written goes on and says so. /dev/full is a disk that is always full."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from supervisor import loggers  # type: ignore[import-untyped] # it has no types

from infermesh_client.cli.status import log_problems
from infermesh_client.mesh.plan import Service
from infermesh_client.mesh.stop import stop_mesh
from infermesh_client.mesh.supervision.lossy_logs import LossyFileHandler, LossyStream
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.settings import Home
from libs.client.tests.mesh.test_supervisor import wait_for

CHATTY = "import itertools, time; [(print(n, flush=True), time.sleep(0.01)) for n in itertools.count()]"
FULL = "No space left on device"


@pytest.fixture
def full_home(tmp_path: Path) -> Iterator[Home]:
    """A home whose logs are all on a full disk."""
    home = Home(tmp_path, tmp_path / "models")
    home.log.mkdir()
    for name in ("supervisord", "chatty", "other"):
        (home.log / f"{name}.log").symlink_to("/dev/full")
    yield home
    stop_mesh(home, wait_s=5)


def running(supervisor: Supervisor) -> dict[str, int]:
    try:
        return {each.name: each.pid for each in supervisor.processes() if each.pid}
    except OSError:
        return {}


def test_a_mesh_on_a_full_disk_goes_on_and_says_so(full_home: Home) -> None:
    supervisor = Supervisor(full_home)
    services = [
        Service(name, [sys.executable, "-c", CHATTY], {}, order) for order, name in enumerate(("chatty", "other"))
    ]
    process = supervisor.start(services, stop_wait_s=5)
    wait_for(lambda: len(running(supervisor)) == 2)
    first = running(supervisor)
    wait_for(lambda: len(log_problems(full_home)) == 3)
    assert all(FULL in problem for problem in log_problems(full_home))
    psutil.Process(first["other"]).kill()  # supervisord logs its end, and starts it again
    wait_for(lambda: running(supervisor).get("other", first["other"]) != first["other"])
    assert process.poll() is None
    assert running(supervisor)["chatty"] == first["chatty"]
    assert stop_mesh(full_home, wait_s=20) == 3
    assert process.wait(5) == 0
    assert log_problems(full_home) == []


def record(text: str) -> loggers.LogRecord:
    return loggers.LogRecord(loggers.LevelsByName.INFO, text.encode())


def test_a_log_that_can_be_written_again_has_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.symlink_to("/dev/full")
    handler = LossyFileHandler(str(path), maxBytes=100, backupCount=1)
    handler.emit(record("lost"))
    assert (handler.problem, handler.lost) == (FULL, 1)
    handler.close()
    path.unlink()
    handler.reopen()
    handler.emit(record("written"))
    assert (handler.problem, handler.lost, path.read_text()) == ("", 0, "written")
    handler.close()


def test_a_change_of_files_that_fails_loses_lines_only(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    path = folder / "a.log"
    handler = LossyFileHandler(str(path), maxBytes=10, backupCount=1)
    (folder / "a.log.1").mkdir()  # in its way
    for _ in range(3):
        handler.emit(record("longer than that"))
    assert handler.problem
    (folder / "a.log.1").rmdir()
    for _ in range(2):
        handler.emit(record("longer than that"))
    assert not handler.problem
    handler.close()


def test_a_stream_drops_what_it_cannot_write() -> None:
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - its close fails
    assert LossyStream(full).write("text") == 4
    with pytest.raises(OSError, match=FULL):
        full.close()
    written = io.StringIO()
    LossyStream(written).write("text")
    assert written.getvalue() == "text"
