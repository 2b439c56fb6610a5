"""Two routers behind one Envoy: requests are spread, one goes on for the other, and each answers for the whole mesh."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore

import httpx
import pytest

from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from tests.e2e.mesh import ROUTER, SIMULATED, Program, is_router_ready, is_worker_ready, write_manage_key
from tests.e2e.test_up_down import wait_for

BODY = {"model": "simulated", "messages": [{"role": "user", "content": "go on"}]}
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Several:
    """Two workers, two routers and Envoy."""

    workers: list[Program]
    routers: list[Program]
    envoy: EnvoyProcess

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.envoy.http, timeout=60)

    def ready(self) -> bool:
        """Whether every router has every worker."""
        return all(is_router_ready(str(each.settings["admin_listen"]), len(self.workers)) for each in self.routers)

    def requests(self) -> list[int]:
        """How many chats each router has logged."""
        return [each.log.read_text().count("/CreateChatCompletion") for each in self.routers]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    folder = tmp_path_factory.mktemp("routers")
    workers = [Program(SIMULATED, folder / f"worker-{i}.log", {"sim_itl_s": 0.02, "drain_s": 0.5}) for i in range(2)]
    admins = [f"unix:{folder}/{i}.sock" for i in range(2)]
    common: dict[str, object] = {
        "workers": ",".join(worker.address for worker in workers),
        "router_count": 2,
        "drain_s": 0.5,
        "manage_key_file": write_manage_key(folder),
        "responses_store": folder / "responses.sqlite",
    }
    routers = [
        Program(
            ROUTER,
            folder / f"router-{i}.log",
            {
                **common,
                "admin_listen": admins[i],
                "siblings": admins[1 - i],
                "batches_store": "off" if i else folder / "batches.sqlite",
            },
        )
        for i in range(2)
    ]
    free = Address("127.0.0.1", 0)
    first, second = (Address.parse(router.address) for router in routers)
    envoy = EnvoyProcess(EnvoyOptions(http=free, grpc=free, router=first, more_routers=(second,)), folder)
    made = Several(workers, routers, envoy)
    with ExitStack() as stopping:
        for program in (*workers, *routers):
            program.start()
            stopping.callback(program.stop)
        wait_for(lambda: all(is_worker_ready(worker.address) for worker in workers) and made.ready())
        envoy.start()
        stopping.callback(envoy.stop)
        yield made


def test_requests_are_spread_over_the_routers(mesh: Several) -> None:
    def ask(number: int) -> int:
        with mesh.http() as http:
            return http.post(CHAT, json={**BODY, "max_tokens": 8, "seed": number}).status_code

    before = mesh.requests()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(24))) == {200}
    counts = [after - earlier for after, earlier in zip(mesh.requests(), before, strict=True)]
    assert sum(counts) == 24
    assert min(counts) >= 4


def test_whichever_router_is_asked_knows_what_the_other_did(mesh: Several) -> None:
    with mesh.http() as http:
        ids = []
        for _ in range(6):
            answer = http.post(CHAT, json={**BODY, "max_tokens": 2})
            ids.append(answer.headers["x-request-id"])
        for request_id in ids:
            for _ in range(3):
                assert http.get(f"/mesh/v1/requests/{request_id}").json()["request_id"] == request_id
        newest = http.get("/mesh/v1/requests?limit=6").json()["receipts"]
        assert [receipt["request_id"] for receipt in newest] == ids[::-1]


def test_kept_responses_and_batches_are_found_through_every_router(mesh: Several) -> None:
    lines = "".join(
        json.dumps({"custom_id": f"c{i}", "method": "POST", "url": CHAT, "body": {**BODY, "max_tokens": 2}}) + "\n"
        for i in range(2)
    )
    with mesh.http() as http:
        kept = http.post("/v1/responses", json={"model": "simulated", "input": "hi", "max_output_tokens": 2}).json()
        sent = http.post("/v1/files", files={"file": ("f.jsonl", lines)}, data={"purpose": "batch"}).json()
        asked = {"input_file_id": sent["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = http.post("/v1/batches", json=asked).json()
        for _ in range(4):
            assert http.get(f"/v1/responses/{kept['id']}").json()["id"] == kept["id"]
            assert http.get(f"/v1/files/{sent['id']}").json()["id"] == sent["id"]
        wait_for(lambda: http.get(f"/v1/batches/{batch['id']}").json()["status"] == "completed")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_new_requests_go_to_the_other_router(mesh: Several, how: signal.Signals) -> None:
    """Of a killed one at once, of a hung one once its health check has failed."""
    victim = mesh.routers[1]
    with mesh.http() as http, running_streams(mesh, 8) as streams:
        victim.process.send_signal(how)
        wait_for(lambda: quick(mesh, 24))  # fewer may all go to the other one by chance
        answers = [http.post(CHAT, json={**BODY, "max_tokens": 2}) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        victim.kill()
        ends = Counter(each.result() for each in streams)
        assert ends["complete"] >= 1  # those of the other router
        assert ends["complete"] + ends["broken"] == 8
        victim.start()
        wait_for(mesh.ready)


def quick(mesh: Several, count: int) -> bool:
    """Whether so many requests in a row are answered within a second each."""
    try:
        with httpx.Client(base_url=mesh.envoy.http, timeout=1) as http:
            return all(http.post(CHAT, json={**BODY, "max_tokens": 2}).status_code == 200 for _ in range(count))
    except httpx.TimeoutException:
        return False


def endpoints(http: httpx.Client) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = http.get("/mesh/v1/endpoints").json()["endpoints"]
    return listed


@contextmanager
def running_streams(mesh: Several, count: int) -> Iterator[list["Future[str]"]]:
    """So many streams of some seconds, all of which have begun; each says how it ended."""
    begun = Semaphore(0)
    with ThreadPoolExecutor(count) as pool:
        streams = [pool.submit(stream, mesh, begun) for _ in range(count)]
        for _ in range(count):
            assert begun.acquire(timeout=20)
        yield streams


def stream(mesh: Several, begun: Semaphore) -> str:
    with mesh.http() as http:
        try:
            with http.stream("POST", CHAT, json={**BODY, "max_tokens": 250, "stream": True}) as response:
                lines = (line for line in response.iter_lines() if line)
                next(lines)
                begun.release()
                *_, last = lines
        except httpx.RemoteProtocolError:
            return "broken"
    return "complete" if last == "data: [DONE]" else last


def test_a_drained_endpoint_keeps_no_stream_of_either_router(mesh: Several) -> None:
    key = Path(str(mesh.routers[0].settings["manage_key_file"])).read_text(encoding="ascii")
    headers = {"x-infermesh-manage-key": key}
    with mesh.http() as http, running_streams(mesh, 8) as streams:
        assert sum(int(str(each["in_flight"])) for each in endpoints(http)) == 8
        drained, other = (endpoint["address"] for endpoint in endpoints(http))
        answer = http.post(f"/mesh/v1/endpoints/{drained}:drain", json={"move_after_s": 0}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert int(answer.json()["moved"]) >= 1
        assert {each.result() for each in streams} == {"complete"}
        assert http.post(CHAT, json={**BODY, "max_tokens": 2}).headers["x-infermesh-endpoint"] == other
        http.post(f"/mesh/v1/endpoints/{drained}:resume", json={}, headers=headers).raise_for_status()
