"""Stops a mesh: its supervisor and every process below it, even when the supervisor hangs."""

from contextlib import suppress

import psutil

from infermesh_client.mesh.manage_key import remove_manage_key
from infermesh_client.mesh.state import remove_state
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.settings import Home


def stop_mesh(home: Home, *, wait_s: float, started_pid: int = 0) -> int:
    """Stops the mesh, waits until its processes have ended, and returns how many there were (0: none was running).

    Processes that are still running after `wait_s` seconds are killed. A caller that has just started the supervisor
    passes its process id as `started_pid`, because a supervisor that does not answer yet would not be found.
    """
    supervisor = Supervisor(home)
    processes = _processes(supervisor, home, started_pid)
    try:
        supervisor.shutdown()
    except OSError:
        with suppress(IndexError, psutil.NoSuchProcess):
            processes[0].terminate()  # SIGTERM does the same, also before it has its socket
    _, alive = psutil.wait_procs(processes, timeout=wait_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    for path in (supervisor.socket, home.run / "supervisord.pid"):
        path.unlink(missing_ok=True)
    remove_state(home)
    remove_manage_key(home)
    return len(processes)


def _processes(supervisor: Supervisor, home: Home, started_pid: int) -> list[psutil.Process]:
    """The supervisor and its descendants. If it does not answer, its pid file says which process it is."""
    try:
        pid = started_pid or supervisor.pid()
    except OSError:
        pid = _written_pid(home)
    try:
        root = psutil.Process(pid) if pid else None
        if root is None or (not started_pid and str(supervisor.config) not in root.cmdline()):
            return []
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _written_pid(home: Home) -> int:
    try:
        return int((home.run / "supervisord.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
