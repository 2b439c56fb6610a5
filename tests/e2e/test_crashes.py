"""When engine process, worker or router is killed with SIGKILL, clients get a readable error and never hang."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator

import grpc
import openai
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from tests.e2e.mesh import SIMULATED, Mesh, NewMesh

pytestmark = pytest.mark.timeout(120)

MODEL = "smollm2-135m-instruct"
LONG = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 4000, "stream": True, "ignore_eos": True}
SHORT = {"model": MODEL, "prompt": "Once", "max_tokens": 4}


@pytest.fixture(scope="module")
def fast_mesh(new_mesh: NewMesh) -> Mesh:
    """Streams fail at once instead of waiting for the worker to return. test_up_down kills a worker with a model."""
    mesh = new_mesh([(SIMULATED, {"model": MODEL, "sim_itl_s": 0.01})], failover_wait_s=0)
    mesh.start()
    mesh.wait_ready()
    return mesh


def events_after(lines: Iterator[str], crash: Callable[[], None]) -> list[str]:
    """Causes the crash once the stream runs; returns the data of the events that follow."""
    seen = [next(lines) for _ in range(10)]
    assert seen[0].startswith("data: {")
    crash()
    return [line.removeprefix("data: ") for line in lines if line]


def assert_ends_with_error_event(events: list[str]) -> None:
    assert events[-1] == "[DONE]"
    error = json.loads(events[-2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("server_error", None)
    assert error["message"]
    assert error["code"]


@pytest.mark.parametrize("victim", ["engine process", "worker"])
def test_stream_ends_with_an_error_event(fast_mesh: Mesh, victim: str) -> None:
    worker = fast_mesh.workers[0]
    with fast_mesh.http() as http:
        with http.stream("POST", "/v1/completions", json=LONG) as response:
            assert response.status_code == 200

            def crash() -> None:
                if victim == "worker":
                    worker.kill()
                    worker.start()
                else:
                    os.kill(worker.engine_pid(), signal.SIGKILL)

            assert_ends_with_error_event(events_after(response.iter_lines(), crash))
        fast_mesh.wait_ready()
        answer = http.post("/v1/completions", json=SHORT)
        assert answer.status_code == 200
        assert answer.json()["usage"]["completion_tokens"] <= 4


def test_openai_client_raises_in_the_middle(fast_mesh: Mesh) -> None:
    worker = fast_mesh.workers[0]
    with fast_mesh.openai() as client:
        stream = client.completions.create(
            model=MODEL, prompt="Once", max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        os.kill(worker.engine_pid(), signal.SIGKILL)
        with pytest.raises(openai.APIError) as caught:
            for _ in stream:
                pass
        assert caught.value.code
        fast_mesh.wait_ready()


def test_request_without_stream_gets_a_status(fast_mesh: Mesh) -> None:
    """Nothing was sent yet, so the client gets an HTTP error."""
    worker = fast_mesh.workers[0]
    with fast_mesh.http() as http, grpc.insecure_channel(fast_mesh.envoy.grpc) as channel:
        watch = inference_pb2_grpc.InferenceServiceStub(channel).WatchHealth(
            pb.WatchHealthRequest(min_interval_ms=1), timeout=30
        )

        def crash_when_it_runs() -> None:
            assert any(update.report.load.running for update in watch)
            os.kill(worker.engine_pid(), signal.SIGKILL)
            watch.cancel()

        crashing = threading.Thread(target=crash_when_it_runs)
        crashing.start()
        response = http.post("/v1/completions", json={**LONG, "stream": False})
        crashing.join()
        assert response.status_code == 503
        assert response.json()["error"]["type"] == "server_error"
        assert int(response.headers["retry-after"]) >= 1
        fast_mesh.wait_ready()


def test_native_stream_ends_unavailable(fast_mesh: Mesh) -> None:
    worker = fast_mesh.workers[0]
    with grpc.insecure_channel(fast_mesh.envoy.grpc) as channel:
        stop = pb.StopConditions(max_tokens=4000, ignore_eos=True)
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(
            pb.GenerateRequest(model=MODEL, text="Once", stop=stop)
        )
        next(call)
        os.kill(worker.engine_pid(), signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert caught.value.details()
    fast_mesh.wait_ready()


def test_refused_while_the_engine_is_back_loading(fast_mesh: Mesh) -> None:
    """Between crash and readiness every request is answered at once: refused with Retry-After, or served."""
    os.kill(fast_mesh.workers[0].engine_pid(), signal.SIGKILL)
    with fast_mesh.http() as http:
        seen = set()
        while 200 not in seen:
            response = http.post("/v1/completions", json=SHORT)
            seen.add(response.status_code)
            if response.status_code != 200:
                assert response.status_code == 503
                assert response.headers["retry-after"]
                assert response.json()["error"]["type"] == "server_error"


def test_other_worker_takes_over(new_mesh: NewMesh) -> None:
    """With a second worker, new requests are served throughout while the first is gone."""
    mesh = new_mesh([(SIMULATED, {}), (SIMULATED, {})])
    mesh.start()
    mesh.wait_ready()
    body = {"model": "simulated", "prompt": "Hi", "max_tokens": 2}
    with mesh.http() as http:
        for worker in mesh.workers:
            worker.kill()
            for _ in range(20):
                assert http.post("/v1/completions", json=body).status_code == 200
            worker.start()
            served = set()
            while worker.address not in served:
                served.add(http.post("/v1/completions", json=body).headers["x-infermesh-endpoint"])
    mesh.stop()


def test_router_killed_and_back(new_mesh: NewMesh) -> None:
    mesh = new_mesh([(SIMULATED, {})])
    mesh.start()
    mesh.wait_ready()
    body = {"model": "simulated", "prompt": "Hi", "max_tokens": 2}
    with mesh.http() as http:
        mesh.router.kill()
        response = http.post("/v1/completions", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        assert response.headers["retry-after"] == "1"
        mesh.router.start()
        mesh.wait_ready()
        assert http.post("/v1/completions", json=body).status_code == 200
    mesh.stop()
