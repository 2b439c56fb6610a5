"""Owns stopping a mesh for good: everything that its supervisor started, whatever state it is in. Knows no service."""

from contextlib import suppress

import psutil

from infermesh_client.mesh.state import remove_state
from infermesh_client.mesh.supervisor import Supervisor
from infermesh_client.settings import Home


def stop_mesh(home: Home, *, wait_s: float, started_pid: int = 0) -> int:
    """Stops the mesh and waits until its processes are gone; returns how many there were, 0 when none ran.

    After `wait_s` what is left is killed. `started_pid` is the supervisor's, where the caller knows it: one that is too
    young to answer would not be found.
    """
    supervisor = Supervisor(home)
    processes = _processes(supervisor, home, started_pid)
    try:
        supervisor.shutdown()
    except OSError:
        with suppress(IndexError, psutil.NoSuchProcess):
            processes[0].terminate()  # means the same to a supervisor, whether it has its socket or not
    _, alive = psutil.wait_procs(processes, timeout=wait_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    for path in (supervisor.socket, home.run / "supervisord.pid"):
        path.unlink(missing_ok=True)
    remove_state(home)
    return len(processes)


def _processes(supervisor: Supervisor, home: Home, started_pid: int) -> list[psutil.Process]:
    """The supervisor and all below it. It is asked for its id, or looked up where it does not answer."""
    try:
        pid = started_pid or supervisor.pid()
    except OSError:
        pid = _written_pid(home)
    try:
        root = psutil.Process(pid) if pid else None
        if root is None or str(supervisor.config) not in root.cmdline():
            return []
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _written_pid(home: Home) -> int:
    try:
        return int((home.run / "supervisord.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
