"""Starts and stops whole meshes as users run them: workers, router and Envoy as processes on free ports."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
import httpx
import openai
import psutil
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_client.mesh.ports import pick_free_ports
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess

MODEL = "smollm2-135m-instruct"
CPU, XPU, SIMULATED = "infermesh_worker_cpu", "infermesh_worker_xpu", "infermesh_worker.testing.simulated"
ROUTER = "infermesh_router"
READY = inference_pb2.ENDPOINT_STATE_READY
READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 45.0
POLL_S = 0.05
VENV = os.environ.get("INFERMESH_TEST_MESH_VENV")
PYTHON = f"{VENV}/bin/python" if VENV else sys.executable
"""Runs the services: that of another venv, if tests run in one of their own."""


def free_address() -> str:
    return f"127.0.0.1:{pick_free_ports(1)[0]}"


def is_worker_ready(address: str) -> bool:
    """Whether the worker at this address reports READY."""
    with grpc.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        try:
            report: inference_pb2.HealthReport = stub.Health(inference_pb2.HealthRequest(), timeout=5).report
        except grpc.RpcError:
            return False
    return report.state == READY


def is_router_ready(address: str, workers: int) -> bool:
    """Whether the router with this admin address is connected to this number of workers that report READY."""
    with grpc.insecure_channel(address) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        try:
            listed: admin_pb2.ListEndpointsResponse = stub.ListEndpoints(admin_pb2.ListEndpointsRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return sum(each.connected and each.report.state == READY for each in listed.endpoints) == workers


@dataclass
class Program:
    """One of our services as a process. It keeps its address when it is started again."""

    module: str
    log: Path
    settings: dict[str, object]
    address: str = field(default_factory=free_address)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, f"{self.module} was not started"
        return self._process

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
        settings = {"listen": self.address, "drain_s": 5, **self.settings}
        environment |= {f"INFERMESH_{name.upper()}": str(value) for name, value in settings.items()}
        tether = [sys.executable, "-m", "infermesh_client.tether", "--parent", str(os.getpid()), "--"]
        with self.log.open("ab") as log:
            command = [*tether, PYTHON, "-m", self.module]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def request_stop(self) -> None:
        """Sends SIGTERM; a program that was never started is left alone."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Sends SIGTERM and waits."""
        self.request_stop()
        self.wait_stopped()

    def wait_stopped(self) -> None:
        """Waits for the end of a program that was asked to stop."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def engine_pid(self) -> int:
        """The process id of a worker's engine."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c.pid for c in children if "infermesh_worker.engine_process.process" in " ".join(c.cmdline()))


class Mesh:
    """Workers, their router and Envoy."""

    def __init__(self, folder: Path, workers: list[Program], router: Program) -> None:
        self.workers = workers
        self.router = router
        free = Address("127.0.0.1", 0)
        self.envoy = EnvoyProcess(EnvoyOptions(http=free, grpc=free, router=Address.parse(router.address)), folder)

    @property
    def admin(self) -> str:
        """The router's admin address."""
        return str(self.router.settings["admin_listen"])

    @property
    def manage_key(self) -> str:
        """The secret of its owner."""
        return Path(str(self.router.settings["manage_key_file"])).read_text(encoding="ascii")

    def start(self) -> None:
        for program in (*self.workers, self.router):
            program.start()
        self.envoy.start()

    def stop(self) -> None:
        """Stops all of them at the same time."""
        with ExitStack() as stopping:  # waits for all of them even if one raises, the last callback first
            for program in (*self.workers, self.router):
                program.request_stop()
                stopping.callback(program.wait_stopped)
            stopping.callback(self.envoy.stop)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Returns when every worker takes requests and the router knows it; fails with the logs after the timeout.

        The workers are asked first: for a moment after a crash the router still has the report from before it.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (
            all(is_worker_ready(worker.address) for worker in self.workers)
            and is_router_ready(self.admin, len(self.workers))
        ):
            if time.monotonic() > deadline_s:
                pytest.fail(f"the mesh is not ready:\n{self.logs()}")
            time.sleep(POLL_S)

    def logs(self) -> str:
        return "\n".join(p.log.read_text(errors="replace")[-3000:] for p in (*self.workers, self.router))

    def http(self, **options: Any) -> httpx.Client:
        """A client of the OpenAI port; options are httpx.Client's."""
        return httpx.Client(base_url=self.envoy.http, timeout=60, **options)

    def openai(self) -> openai.OpenAI:
        """The unmodified client, without retries because they would hide failures."""
        return openai.OpenAI(base_url=f"{self.envoy.http}/v1", api_key="none", max_retries=0, timeout=60)


def write_manage_key(folder: Path) -> Path:
    """Writes a secret of the mesh's owner and returns its file."""
    path = folder / "manage.key"
    path.touch(0o600)
    path.write_text(secrets.token_urlsafe(32))
    return path


class NewMesh(Protocol):
    """Makes a mesh of (module, settings) workers, which a fixture stops in the end; the caller starts it."""

    def __call__(self, workers: Sequence[tuple[str, Mapping[str, object]]], **router_settings: object) -> Mesh: ...
