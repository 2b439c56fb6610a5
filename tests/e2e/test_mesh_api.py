"""The mesh as web pages see it, through the real Envoy: choices, failovers and restarts, receipts, and the page."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest

from infermesh.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from tests.e2e.mesh import SIMULATED, Mesh, NewMesh

WAIT_S = 30.0
HTML = {"accept": "text/html,application/xhtml+xml"}
Told = dict[str, Any]


class Listener:
    """Follows the events of a mesh in a thread."""

    def __init__(self, url: str, last_id: str = "") -> None:
        self._events: list[tuple[str, Told]] = []
        self._more = threading.Condition()
        self.last_id = last_id
        headers = {"last-event-id": last_id} if last_id else {}
        self._client = httpx.Client(base_url=url, timeout=WAIT_S, headers=headers)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait_for(self, kind: str, fits: Callable[[Told], bool] = lambda _told: True) -> Told:
        """The first event of a kind that fits, once it is there."""
        deadline_s = time.monotonic() + WAIT_S
        with self._more:
            while not (found := [told for name, told in self._events if name == kind and fits(told)]):
                assert self._more.wait(deadline_s - time.monotonic()), (kind, self._events)
        return found[0]

    def all_of(self, kind: str) -> list[Told]:
        """The events of a kind so far."""
        with self._more:
            return [told for name, told in self._events if name == kind]

    def _follow(self) -> None:
        try:
            with self._client.stream("GET", "/mesh/v1/events") as stream:
                kind = ""
                for line in stream.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "id":
                        self.last_id = value
                    elif name == "data":
                        with self._more:
                            self._events.append((kind, json.loads(value)))
                            self._more.notify_all()
        except httpx.HTTPError:
            return  # the mesh is stopped before the listener


@pytest.fixture(scope="module")
def mesh(new_mesh: NewMesh) -> Mesh:
    """Two simulated workers, one of which tests kill."""
    made = new_mesh([(SIMULATED, {"sim_itl_s": 0.03})] * 2, reconnect_max_s=0.2)
    made.start()
    made.wait_ready()
    return made


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=mesh.envoy.http, timeout=WAIT_S, headers={"origin": mesh.envoy.http}) as client:
        yield client


def ask(http: httpx.Client, **fields: Any) -> httpx.Response:
    """A chat that the page itself could send."""
    body = {"model": "simulated", "messages": [{"role": "user", "content": "say my secret"}], "max_tokens": 4, **fields}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response


def test_a_choice_and_its_receipt(mesh: Mesh, http: httpx.Client) -> None:
    listener = Listener(mesh.envoy.http)
    listener.wait_for("snapshot")
    answer = ask(http, temperature=0.5, store=True, frobnicate=1)
    request_id = answer.headers["x-request-id"]
    choice = listener.wait_for("choice", lambda told: told["request_id"] == request_id)
    receipt = http.get(f"/mesh/v1/requests/{request_id}").json()
    endpoint = answer.headers["x-infermesh-endpoint"]
    assert choice["endpoint"] == receipt["endpoint"] == endpoint
    assert choice["reason"] == receipt["reason"] == answer.headers["x-infermesh-reason"]
    assert receipt["runners_up"] == choice["runners_up"]
    addresses = {worker.address for worker in mesh.workers}
    assert {each["endpoint"] for each in receipt["runners_up"]} == addresses - {endpoint}
    assert receipt["completion_tokens"] == answer.json()["usage"]["completion_tokens"] == 4
    sources = {each["name"]: (each["value"], each["source"]) for each in receipt["sampling"]}
    assert sources["temperature"] == (0.5, "request")
    assert sources["top_p"] == (1, "built-in")
    assert "frobnicate" in receipt["ignored_fields"]
    assert 0 < receipt["first_token_ms"] <= receipt["total_ms"]
    assert "secret" not in json.dumps(receipt)
    newest = http.get("/mesh/v1/requests?limit=1").json()["receipts"]
    assert [each["request_id"] for each in newest] == [request_id]


def test_a_listener_that_comes_back_gets_what_it_missed(mesh: Mesh, http: httpx.Client) -> None:
    had = ask(http).headers["x-request-id"]
    listener = Listener(mesh.envoy.http)
    listener.wait_for("choice", lambda told: told["request_id"] == had)
    last_id = listener.last_id
    missed = ask(http).headers["x-request-id"]
    back = Listener(mesh.envoy.http, last_id)
    back.wait_for("snapshot")
    assert [told["request_id"] for told in back.all_of("choice")] == [missed]
    assert not back.all_of("lost")


def test_a_killed_worker_is_seen(mesh: Mesh, http: httpx.Client) -> None:
    listener = Listener(mesh.envoy.http)
    listener.wait_for("snapshot")
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 60, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as stream:
        request_id, serving = stream.headers["x-request-id"], stream.headers["x-infermesh-endpoint"]
        killed = next(worker for worker in mesh.workers if worker.address == serving)
        lines = stream.iter_lines()
        for _ in range(10):
            next(lines)
        killed.kill()
        assert "data: [DONE]" in list(lines)
    move = listener.wait_for("failover", lambda told: told["request_id"] == request_id)
    assert move["from_endpoint"] == serving
    assert move["after_tokens"] > 0
    (told,) = http.get(f"/mesh/v1/requests/{request_id}").json()["failovers"]
    assert (
        told.items() >= {key: move[key] for key in ("from_endpoint", "to_endpoint", "reason", "after_tokens")}.items()
    )
    listener.wait_for("state", lambda told: (told["endpoint"], told["state"]) == (serving, "unreachable"))
    killed.start()
    restart = listener.wait_for("restart", lambda told: told["endpoint"] == serving)
    assert restart["what"] == "worker"
    mesh.wait_ready()


def test_only_the_owner_drains(mesh: Mesh, http: httpx.Client) -> None:
    """Envoy and this client are on the router's machine, as other users of it may be."""
    for headers in ({}, {"x-infermesh-manage-key": mesh.manage_key[:-1]}):
        listed = http.get("/mesh/v1/endpoints", headers=headers).json()
        assert not listed["may_manage"]
        path = f"/mesh/v1/endpoints/{listed['endpoints'][0]['address']}:drain"
        refused = http.post(path, headers=headers, json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_needed")
        assert "`infermesh ui`" in refused.json()["error"]["message"]
    assert {each["state"] for each in http.get("/mesh/v1/endpoints").json()["endpoints"]} == {"ready"}


def test_drain_and_resume(mesh: Mesh, http: httpx.Client) -> None:
    http.headers["x-infermesh-manage-key"] = mesh.manage_key
    listed = http.get("/mesh/v1/endpoints").json()
    assert listed["may_manage"]
    address = listed["endpoints"][0]["address"]
    assert http.post(f"/mesh/v1/endpoints/{address}:drain", json={"move_after_s": 0}).status_code == 200
    listener = Listener(mesh.envoy.http)
    listener.wait_for("state", lambda told: (told["endpoint"], told["state"]) == (address, "draining"))
    assert ask(http).headers["x-infermesh-endpoint"] != address
    assert http.post(f"/mesh/v1/endpoints/{address}:resume").status_code == 200
    listener.wait_for("state", lambda told: (told["before"], told["state"]) == ("draining", "ready"))


def test_over_grpc(mesh: Mesh, http: httpx.Client) -> None:
    request_id = ask(http).headers["x-request-id"]
    with grpc.insecure_channel(mesh.envoy.grpc) as channel:
        stub = mesh_pb2_grpc.MeshServiceStub(channel)
        receipt = stub.GetReceipt(mesh_pb2.GetReceiptRequest(request_id=request_id), timeout=WAIT_S)
        assert receipt.completion_tokens == 4
        listed = stub.ListReceipts(mesh_pb2.ListReceiptsRequest(limit=2), timeout=WAIT_S)
        assert listed.receipts[0] == receipt


def test_the_page(http: httpx.Client) -> None:
    page = http.get("/", headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert http.get("/").text == "infermesh is running\n"
    own = re.findall(r'(?:src|href)="(ui/[^"]+)"', page.text)
    assert own
    for path in own:
        file = http.get(f"/{path}")
        assert file.status_code == 200, path
        assert "immutable" in file.headers["cache-control"]
    again = http.get("/", headers={**HTML, "if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert http.get("/ui/none.js").status_code == 404
