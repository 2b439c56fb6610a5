"""Owns talking to supervisord: its configuration, its start, its XML-RPC. Knows no service.

Why supervisord: maintained since 2004, plain Python, restarts what dies, rotates logs, and is asked and told over a
socket that only this user can open.
"""

import hashlib
import http.client
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_client.mesh.plan import Service
from infermesh_client.settings import Home

_MAX_SOCKET_PATH = 100
"""Unix sockets' paths end at 107 bytes, and supervisord adds its process id while it makes one."""
_RPC_TIMEOUT_S = 5.0
_PYTHON = (sys.executable, "-P")  # -P: modules are not looked for in the home folder


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A service as the supervisor sees it."""

    name: str
    state: str
    """STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL, STOPPED or UNKNOWN."""
    pid: int
    """0 while it does not run."""
    description: str


class Supervisor:
    """The supervisor of one home folder. Calls raise OSError while it does not run."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket = _socket_path(home)

    @property
    def config(self) -> Path:
        """Its rendered configuration; also what tells its process from others."""
        return self._home.run / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._socket

    def start(self, services: Sequence[Service], *, stop_wait_s: float) -> "subprocess.Popen[bytes]":
        """Starts the supervisor, and it the services, all at once. Returns at once; services that die are restarted.

        stop_wait_s: how long a service may take to end after SIGTERM, before SIGKILL.
        """
        self._home.run.mkdir(parents=True, exist_ok=True)
        self._home.log.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self._render(services, stop_wait_s), encoding="utf-8")
        with (self._home.log / "supervisord.log").open("ab") as log:
            return subprocess.Popen(
                [*_PYTHON, "-m", "infermesh_client.mesh.supervisord", str(self.config)],
                cwd=self._home.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is not for the mesh
            )

    def is_running(self) -> bool:
        """Whether it answers."""
        try:
            self.pid()
        except OSError:
            return False
        return True

    def pid(self) -> int:
        """Process id of the supervisor."""
        return int(self._call("getPID"))

    def processes(self) -> list[ProcessStatus]:
        """The services, in the order of their start."""
        infos = self._call("getAllProcessInfo")
        return [ProcessStatus(i["name"], i["statename"], int(i["pid"]), i["description"]) for i in infos]

    def shutdown(self) -> None:
        """Tells it to stop all services and itself; returns at once."""
        self._call("shutdown")

    def log_of(self, name: str) -> Path:
        """The log file of a service."""
        return self._home.log / f"{name}.log"

    def _call(self, method: str) -> Any:
        with xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(self._socket)) as proxy:
            try:
                return getattr(proxy.supervisor, method)()
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
            **{f"program:{service.name}": self._program(service, stop_wait_s) for service in services},
        }
        return "\n".join(_section(name, values) for name, values in sections.items())

    def _relative(self, path: Path) -> str:
        """Paths below the home are relative: supervisord expands % in some of its paths once and in some twice."""
        return str(path.relative_to(self._home.root)) if path.is_relative_to(self._home.root) else str(path)

    def _program(self, service: Service, stop_wait_s: float) -> Mapping[str, str]:
        tether = [*_PYTHON, "-m", "infermesh_client.tether", "--parent"]
        command = f"{_quote(tether)} %(ENV_SUPERVISORD_PID)s -- {_quote(service.command)}"
        return {
            "command": command,
            "environment": ",".join(f'{key}="{_escape(value)}"' for key, value in service.environment.items()),
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
    """XML-RPC over a Unix socket, never waiting for ever."""

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


def _socket_path(home: Home) -> Path:
    """In the home folder, or in the temporary one where the home's path is too long for a socket."""
    path = home.run / "supervisor.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"infermesh-{os.getuid()}-{key}.sock"


def _section(name: str, values: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _quote(command: Sequence[str]) -> str:
    return _escape(shlex.join(command))


def _escape(value: str) -> str:
    """supervisord expands % in its configuration."""
    return value.replace("%", "%%")
