"""Whole meshes as they run for users: worker, router and Envoy as processes, on free ports, with the real model."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import openai
import psutil
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "smollm2-135m-instruct"
CPU, XPU, SIMULATED = "infermesh_worker_cpu", "infermesh_worker_xpu", "infermesh_worker.testing.simulated"
ROUTER = "infermesh_router"
READY = inference_pb2.ENDPOINT_STATE_READY
READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 45.0
POLL_S = 0.05


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def is_ready(address: str, endpoints: Sequence[object] = ()) -> bool:
    """Whether the worker there is READY; with endpoints, whether the router there knows so many to be."""
    with grpc.insecure_channel(address) as channel:
        try:
            if not endpoints:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                return stub.Health(inference_pb2.HealthRequest(), timeout=5).report.state == READY
            found = admin_pb2_grpc.AdminServiceStub(channel).ListEndpoints(admin_pb2.ListEndpointsRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return sum(each.connected and each.report.state == READY for each in found.endpoints) == len(endpoints)


@dataclass
class Program:
    """One of our services as a process, on an address that it keeps when it is started again."""

    module: str
    log: Path
    settings: dict[str, object]
    address: str = field(default_factory=free_address)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
        settings = {"listen": self.address, "drain_s": 5, **self.settings}
        environment |= {f"INFERMESH_{name.upper()}": str(value) for name, value in settings.items()}
        tether = [sys.executable, "-m", "infermesh_client.tether", "--parent", str(os.getpid()), "--"]
        with self.log.open("ab") as log:
            command = [*tether, sys.executable, "-m", self.module]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def engine_pid(self) -> int:
        """The engine process of a worker."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c.pid for c in children if "infermesh_worker.engine_process.process" in " ".join(c.cmdline()))


class Mesh:
    """Workers, their router and Envoy."""

    def __init__(self, folder: Path, workers: list[Program], router: Program) -> None:
        self.workers = workers
        self.router = router
        free = Address("127.0.0.1", 0)
        self.envoy = EnvoyProcess(EnvoyOptions(http=free, grpc=free, router=Address.parse(router.address)), folder)

    def start(self) -> None:
        for program in (*self.workers, self.router):
            program.start()
        self.envoy.start()

    def stop(self) -> None:
        with ExitStack() as stopping:  # the last one given is stopped first, and all are
            for program in (*self.workers, self.router):
                stopping.callback(program.stop)
            stopping.callback(self.envoy.stop)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Returns when every worker takes requests and the router knows it; fails with the logs otherwise.

        The workers are asked first: for a moment after a crash the router still has the report from before it.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (
            all(is_ready(worker.address) for worker in self.workers) and is_ready(self.envoy.grpc, self.workers)
        ):
            if time.monotonic() > deadline_s:
                pytest.fail(f"the mesh is not ready:\n{self.logs()}")
            time.sleep(POLL_S)

    def logs(self) -> str:
        return "\n".join(p.log.read_text(errors="replace")[-3000:] for p in (*self.workers, self.router))

    def http(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.envoy.http, timeout=60, **options)

    def openai(self) -> openai.OpenAI:
        """The unmodified client; without retries, which would hide failures."""
        return openai.OpenAI(base_url=f"{self.envoy.http}/v1", api_key="none", max_retries=0, timeout=60)


StartMesh = Callable[..., Mesh]


@pytest.fixture(scope="session")
def new_mesh(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartMesh]:
    """Makes meshes, not yet started, and stops them at the end: new_mesh([(CPU, {"numerics": "exact"})])."""
    with ExitStack() as stopping:

        def make(workers: list[tuple[str, dict[str, object]]], **router_settings: object) -> Mesh:
            folder = tmp_path_factory.mktemp("mesh")
            real = {"models": default_model.parent, "model": MODEL, "kv_cache_bytes": "256MiB"}
            programs = [
                Program(module, folder / f"worker-{i}.log", {**(real if module in (CPU, XPU) else {}), **settings})
                for i, (module, settings) in enumerate(workers)
            ]
            endpoints = ",".join(program.address for program in programs)
            router = Program(ROUTER, folder / "router.log", {"workers": endpoints, **router_settings})
            mesh = Mesh(folder, programs, router)
            stopping.callback(mesh.stop)
            return mesh

        yield make


@pytest.fixture(scope="session")
def mesh(new_mesh: StartMesh) -> Mesh:
    """The mesh that most tests share. Exact numerics: tests compare texts."""
    made = new_mesh([(CPU, {"numerics": "exact"})])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as client:
        yield client


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with mesh.openai() as opened:
        yield opened


@pytest.fixture
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mesh.envoy.grpc) as opened:
        yield opened
