"""Configures, starts and queries supervisord, which keeps the mesh's processes running.

Why supervisord: it has been maintained since 2004, is plain Python, restarts processes that die, rotates their logs,
and is controlled over a socket that only this user can open.
"""

import http.client
import os
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_client.mesh.plan import Service
from infermesh_client.mesh.sockets import socket_path
from infermesh_client.mesh.supervision.logs import LogEnds
from infermesh_client.mesh.supervision.service_files import service_file, write_service_files
from infermesh_client.settings import Home

_RPC_TIMEOUT_S = 5.0
_PYTHON = (sys.executable, "-P")  # -P: do not look for modules in the working folder


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The state of one service, as the supervisor reports it."""

    name: str
    state: str
    """STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL, STOPPED or UNKNOWN."""
    pid: int
    """Its process id; 0 while it is not running."""
    description: str


class Supervisor:
    """The supervisor of one home folder. Calls raise OSError while it is not running."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket = socket_path(home, "supervisor")
        self._started: subprocess.Popen[bytes] | None = None
        self._log_ends = LogEnds(home.log)

    @property
    def config(self) -> Path:
        """Path of its rendered configuration, by which its process is recognised."""
        return self._home.run / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """Path of the socket on which it listens."""
        return self._socket

    def start(self, services: Sequence[Service], *, stop_wait_s: float) -> "subprocess.Popen[bytes]":
        """Starts the supervisor, which starts all services at once and restarts those that die. Does not wait for them.

        `stop_wait_s` is how long a service may take to end after SIGTERM, in seconds, before it gets SIGKILL.
        """
        self._home.run.mkdir(parents=True, exist_ok=True)
        self._home.log.mkdir(parents=True, exist_ok=True)
        write_service_files(self._home, services)
        self.config.write_text(self._render(services, stop_wait_s), encoding="utf-8")
        self._log_ends = LogEnds(self._home.log)
        with (self._home.log / "supervisord.log").open("ab") as log:
            self._started = subprocess.Popen(
                [*_PYTHON, "-m", "infermesh_client.mesh.supervision.supervisord_main", str(self.config)],
                cwd=self._home.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C in the terminal does not reach the mesh
            )
        return self._started

    def has_ended(self) -> bool:
        """Whether the process that `start` started has ended."""
        return self._started is not None and self._started.poll() is not None

    def is_running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            self.pid()
        except OSError:
            return False
        return True

    def pid(self) -> int:
        """The supervisor's process id."""
        return int(self._call("getPID"))

    def processes(self) -> list[ProcessStatus]:
        """The state of every service, in the order in which they start."""
        infos = self._call("getAllProcessInfo")
        return [ProcessStatus(i["name"], i["statename"], int(i["pid"]), i["description"]) for i in infos]

    def shutdown(self) -> None:
        """Tells the supervisor to stop all services and then itself. Returns at once."""
        self._call("shutdown")

    def log_of(self, name: str) -> Path:
        """Path of the log file of a service."""
        return self._home.log / f"{name}.log"

    def log_problems(self) -> list[str]:
        """One line for each log that cannot be written now, because the disk is full for example."""
        return list(self._call("logProblems", namespace="infermesh"))

    def log_tail(self, name: str) -> str:
        """The last lines that a service has logged since `start`."""
        return self._log_ends.tail(self.log_of(name))

    def _call(self, method: str, *, namespace: str = "supervisor") -> Any:
        with xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(self._socket)) as proxy:
            try:
                return getattr(getattr(proxy, namespace), method)()
            except (http.client.HTTPException, xmlrpc.client.Error) as error:
                raise ConnectionError(f"supervisord does not answer {method}: {error}") from error

    def _render(self, services: Sequence[Service], stop_wait_s: float) -> str:
        sections = {
            "unix_http_server": {"file": self._relative(self._socket), "chmod": "0700"},
            "supervisord": {
                "logfile": "log/supervisord.log",
                "logfile_maxbytes": "5MB",
                "logfile_backups": "1",
                "pidfile": "run/supervisord.pid",
                "silent": "true",
                "minfds": "1024",
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "rpcinterface:infermesh": {
                "supervisor.rpcinterface_factory": "infermesh_client.mesh.supervision.lossy_logs:make_interface"
            },
            **{f"program:{service.name}": self._program(service, stop_wait_s) for service in services},
        }
        return "\n".join(_section(name, values) for name, values in sections.items())

    def _relative(self, path: Path) -> str:
        """Makes paths in the home relative, because supervisord expands % once in some paths and twice in others."""
        return str(path.relative_to(self._home.root)) if path.is_relative_to(self._home.root) else str(path)

    def _program(self, service: Service, stop_wait_s: float) -> Mapping[str, str]:
        tether = [*_PYTHON, "-m", "infermesh_client.tether", "--parent"]
        return {
            "command": f"{_quote(tether)} %(ENV_SUPERVISORD_PID)s --service {service_file(service.name)}",
            "priority": str(service.stop_order),
            "autorestart": "true",
            "startsecs": "2",
            "startretries": "100",  # the pause grows by a second each time
            "stopsignal": "TERM",
            "stopwaitsecs": str(int(stop_wait_s)),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": self._relative(self.log_of(service.name)),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "3",
        }


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket, with a timeout."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_RPC_TIMEOUT_S)
        try:
            connection.sock.connect(os.fspath(self._path))
        except OSError:
            connection.close()
            raise
        self._connection = host, connection
        return connection


def _section(name: str, values: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _quote(command: Sequence[str]) -> str:
    return _escape(shlex.join(command))


def _escape(value: str) -> str:
    """Escapes %, which supervisord expands in its configuration."""
    return value.replace("%", "%%")
