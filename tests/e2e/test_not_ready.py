"""While a part of the mesh is missing, clients get 503 and a time to retry; it recovers without a restart."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from tests.e2e.mesh import SIMULATED, Mesh, NewMesh, Program

pytestmark = pytest.mark.timeout(90)

BODY = {"model": "simulated", "prompt": "Hi", "max_tokens": 2}


def assert_unavailable(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 503
    error: dict[str, Any] = response.json()["error"]
    assert (error["type"], error["param"]) == ("server_error", None)
    assert int(response.headers["retry-after"]) >= 1
    return error


@pytest.fixture
def simulated(new_mesh: NewMesh) -> Iterator[Mesh]:
    """A mesh that the test starts."""
    made = new_mesh([(SIMULATED, {})])
    yield made
    made.stop()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_no_worker_is_ready(idle_mesh: Mesh, path: str, stream: bool) -> None:
    prompt = {"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {"prompt": "Hi"}
    with idle_mesh.http() as http:
        error = assert_unavailable(http.post(path, json={"model": "simulated", "stream": stream, **prompt}))
    assert error["message"]
    assert error["code"]


@pytest.fixture(scope="module")
def idle_mesh(new_mesh: NewMesh) -> Iterator[Mesh]:
    """A router and Envoy whose only worker never started."""
    made = new_mesh([(SIMULATED, {})])
    made.router.start()
    made.envoy.start()
    with made.http() as http:
        while http.get("/v1/models").status_code != 200:
            time.sleep(0.02)
    yield made
    made.stop()


def test_health_is_unavailable_without_a_worker(idle_mesh: Mesh) -> None:
    with idle_mesh.http() as http:
        assert_unavailable(http.get("/health"))
        assert http.get("/v1/models").json()["data"] == []


def test_native_client_is_told_when_to_retry(idle_mesh: Mesh) -> None:
    with grpc.insecure_channel(idle_mesh.envoy.grpc) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Generate(pb.GenerateRequest(model="simulated", text="Hi"), timeout=20))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    kinds = [detail.type_url.rpartition("/")[2] for detail in rpc_status.from_call(caught.value).details]
    assert error_details_pb2.RetryInfo.DESCRIPTOR.full_name in kinds
    assert dict(caught.value.trailing_metadata())["retry-after"]


def test_parts_start_in_the_wrong_order(simulated: Mesh) -> None:
    """Envoy starts first, then the router, the worker last. Each step changes the answers, and no part is restarted."""
    simulated.envoy.start()
    with simulated.http() as http:
        assert assert_unavailable(http.post("/v1/completions", json=BODY))["code"] == "unavailable"
        simulated.router.start()
        while http.get("/v1/models").status_code != 200:
            time.sleep(0.02)
        assert assert_unavailable(http.post("/v1/completions", json=BODY))["code"] != "unavailable"
        simulated.workers[0].start()
        simulated.wait_ready()
        assert http.post("/v1/completions", json=BODY).status_code == 200


@pytest.mark.alone
def test_envoy_finds_the_router_within_a_second(simulated: Mesh) -> None:
    simulated.envoy.start()
    with simulated.http() as http:
        assert_unavailable(http.get("/health"))
        simulated.router.start()
        wait_until_listening(simulated.router)
        start_s = time.monotonic()
        while http.get("/v1/models").status_code != 200:
            assert time.monotonic() - start_s < 1
            time.sleep(0.02)


def wait_until_listening(program: Program) -> None:
    while '"ready"' not in program.log.read_text():
        assert program.process.poll() is None, program.log.read_text()
        time.sleep(0.02)


def test_stop_lets_a_running_stream_end(simulated: Mesh) -> None:
    """After the router gets SIGTERM, a running stream goes on to its end and new requests are refused."""
    simulated.start()
    simulated.wait_ready()
    with simulated.http() as http:
        body = {**BODY, "max_tokens": 200, "stream": True, "ignore_eos": True}
        with http.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            simulated.router.process.terminate()
            received = [line for line in lines if line]
        assert received[-1] == "data: [DONE]"
        assert not [line for line in received if '"error"' in line]
        simulated.router.process.wait(20)
        assert_unavailable(http.post("/v1/completions", json=BODY))


def test_wrong_setting_stops_the_start(simulated: Mesh) -> None:
    simulated.router.settings["wrokers"] = "a:1"
    simulated.router.start()
    assert simulated.router.process.wait(20) == 2
    log = simulated.router.log.read_text()
    assert "INFERMESH_WROKERS" in log
    assert "Traceback" not in log
