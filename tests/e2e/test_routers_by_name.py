"""The mesh of deploy/kubernetes as processes: its settings, names and ports, at addresses of 127.0.0.0/8."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event, Semaphore

import httpx
import pytest
import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

from deploy.kubernetes.tests.rendering import named, overlay, pod_of, variables
from infermesh_client.mesh.ports import pick_free_ports
from infermesh_envoy import Address, EnvoyOptions, command, render
from tests.e2e.fake_dns import Hosts, asking, dns_server
from tests.e2e.mesh import ROUTER, SIMULATED, Program
from tests.e2e.test_up_down import wait_for

CHAT = "/v1/chat/completions"
BODY = {"model": "simulated", "messages": [{"role": "user", "content": "go on"}]}


def settings_of(kind: str, name: str, **replaced: object) -> dict[str, object]:
    """What the manifest sets for this pod's process, by field name; `replaced` is what depends on the machine."""
    objects = overlay("cpu")
    (container,) = pod_of(named(objects, kind, name))["containers"]
    given = {key.removeprefix("INFERMESH_").lower(): value for key, value in variables(objects, container).items()}
    assert replaced.keys() <= given.keys() | {"model", "sim_itl_s"}
    return {**given, **replaced}


@dataclass
class Named:
    """Workers, routers and Envoy that find each other by name alone."""

    subnet: str
    hosts: Hosts
    http: str
    folder: Path
    routers: list[Program]

    def add_router(self) -> Program:
        """Starts one more, as `kubectl scale` does."""
        host = f"{self.subnet}.{10 + len(self.routers)}"
        settings = settings_of(
            "Deployment",
            "router",
            mesh_token_file=self.folder / "token",
            admin_listen=f"{host}:8084",
            linger_s=1,
        )
        router = Program(ROUTER, self.folder / f"router-{host}.log", settings, f"{host}:8082")
        self.routers.append(router)
        router.start()
        self.hosts.set(router=[*self.hosts.addresses("router"), host])
        return router

    def kill_routers(self) -> None:
        for router in self.routers:
            if router.process.poll() is None:
                router.kill()

    def carried(self, router: Program) -> int:
        """How many chats the router has logged."""
        return router.log.read_text().count("/CreateChatCompletion")

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.http, timeout=60)

    def ask(self, **fields: object) -> httpx.Response:
        with self.client() as http:
            return http.post(CHAT, json={**BODY, "max_tokens": 4, **fields})


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    folder = tmp_path_factory.mktemp("named")
    subnet = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    (folder / "token").write_text("secret")
    rest, grpc = pick_free_ports(2)
    hosts = Hosts(folder / "dns")
    made = Named(subnet, hosts, f"http://127.0.0.1:{rest}", folder, [])
    with ExitStack() as stopping, pytest.MonkeyPatch.context() as patch:
        for name, value in hosts.environment.items():
            patch.setenv(name, value)
        for number in (1, 2):
            settings = settings_of(
                "StatefulSet", "worker-cpu", mesh_token_file=folder / "token", model="simulated", sim_itl_s=0.02
            )
            worker = Program(SIMULATED, folder / f"worker-{number}.log", settings, f"{subnet}.{number}:8083")
            worker.start()
            stopping.callback(worker.kill)
        hosts.set(worker_cpu=[f"{subnet}.{number}" for number in (1, 2)])
        stopping.callback(made.kill_routers)
        for _ in range(2):
            made.add_router()
        port = stopping.enter_context(dns_server(subnet + ".250", hosts.addresses))
        options = EnvoyOptions(
            http=Address("127.0.0.1", rest), grpc=Address("127.0.0.1", grpc), router=Address("router", 8082)
        )
        config = folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(asking(yaml.safe_load(render(options)), subnet + ".250", port)))
        with (folder / "envoy.log").open("wb") as log:
            envoy = subprocess.Popen(command(config), stdout=log, stderr=subprocess.STDOUT)
        stopping.callback(envoy.wait)
        stopping.callback(envoy.kill)
        wait_for(lambda: is_answered(made))
        yield made


def is_answered(mesh: Named) -> bool:
    try:
        return mesh.ask().status_code == 200 and all(mesh.carried(router) for router in mesh.routers)
    except httpx.TransportError:
        return False


def is_known_everywhere(mesh: Named, request_id: str) -> bool:
    """Whether whichever router Envoy asks has the receipt."""
    with mesh.client() as http:
        return all(http.get(f"/mesh/v1/requests/{request_id}").status_code == 200 for _ in range(8))


def test_each_router_knows_what_the_others_did(mesh: Named) -> None:
    ids = [mesh.ask().headers["x-request-id"] for _ in range(6)]
    wait_for(lambda: all(is_known_everywhere(mesh, each) for each in ids))


def is_decided_by_session(mesh: Named, session: str) -> bool:
    """Whether nothing but the session decided where its requests go; then all of them go to one worker.

    While a busy machine makes one worker measure itself as slower, or a report that it is idle is late, that decides.
    """
    answers = [mesh.ask(session_id=session) for _ in range(6)]
    if {answer.headers["x-infermesh-reason"] for answer in answers} - {"session_hash", "session_affinity"}:
        return False
    assert len({answer.headers["x-infermesh-endpoint"] for answer in answers}) == 1
    return True


def test_a_session_stays_at_its_worker_through_all_routers(mesh: Named) -> None:
    before, sessions = [mesh.carried(router) for router in mesh.routers], count()
    for _ in range(3):
        wait_for(lambda: is_decided_by_session(mesh, f"session {next(sessions)}"))
    assert all(mesh.carried(router) > earlier for router, earlier in zip(mesh.routers, before, strict=True))


def test_a_router_joins_and_another_leaves_without_a_lost_answer(mesh: Named) -> None:
    joined = mesh.add_router()
    wait_for(lambda: mesh.ask().status_code == 200 and mesh.carried(joined) > 0)
    leaving, stop, begun = mesh.routers[0], Event(), Semaphore(0)

    def keep_asking() -> set[int]:
        codes = set()
        while not stop.is_set():
            codes.add(mesh.ask().status_code)
        return codes

    def stream() -> str:
        body = {**BODY, "max_tokens": 150, "stream": True, "ignore_eos": True}
        with mesh.client() as http, http.stream("POST", CHAT, json=body) as response:
            chunks = response.iter_text()
            first = next(chunks)
            begun.release()
            return first + "".join(chunks)

    with ThreadPoolExecutor(10) as pool:
        streams = [pool.submit(stream) for _ in range(6)]
        for _ in streams:
            assert begun.acquire(timeout=30)
        asking_on = [pool.submit(keep_asking) for _ in range(2)]
        leaving.process.send_signal(signal.SIGTERM)
        leaving.process.wait(60)
        mesh.hosts.set(router=mesh.hosts.addresses("router")[1:])
        answers = [each.result() for each in streams]
        stop.set()
        assert [each.result() for each in asking_on] == [{200}, {200}]
    assert all(answer.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in answer for answer in answers)
    log = leaving.log.read_text()
    assert '"in_flight":0' not in log  # it had some of the streams
    assert '"level":"error"' not in log
    request_id = mesh.ask().headers["x-request-id"]
    assert is_known_everywhere(mesh, request_id)
