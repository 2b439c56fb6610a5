"""Clients that leave in the middle of a stream free what they held, and other clients do not notice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import openai
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(180)

MODEL = "smollm2-135m-instruct"
TIMES = 100


def wait_until_idle(inference: InferenceServiceStub) -> None:
    """Returns once nothing runs, waits or holds a KV block."""
    watch = inference.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
    for update in watch:
        load = update.report.load
        if (load.running, load.waiting, load.waiting_tokens, load.kv_cache_usage) == (0, 0, 0, 0):
            watch.cancel()
            return
    pytest.fail("WatchHealth ended before the worker was idle")


def leave_in_the_middle(http: httpx.Client, *, chat: bool, i: int) -> None:
    prompt = {"messages": [{"role": "user", "content": f"Story {i}"}]} if chat else {"prompt": f"Story {i}: Once"}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body = {"model": MODEL, "max_tokens": 4000, "ignore_eos": True, "stream": True, "n": 1 + i % 2, **prompt}
    with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        assert next(response.iter_raw()).startswith(b"data: {")


def test_a_hundred_leave_and_one_stays(mesh: Mesh, channel: grpc.Channel, client: openai.OpenAI) -> None:
    inference = InferenceServiceStub(channel)
    wait_until_idle(inference)
    asked: dict[str, Any] = {"model": MODEL, "prompt": "A long tale:", "max_tokens": 200, "temperature": 0}
    asked["extra_body"] = {"ignore_eos": True}
    alone = client.completions.create(**asked).choices[0].text
    beside: list[str] = []
    done = threading.Event()

    def stay() -> None:
        while not done.is_set():
            stream = client.completions.create(**asked, stream=True)
            beside.append("".join(chunk.choices[0].text for chunk in stream))

    staying = threading.Thread(target=stay)
    staying.start()
    try:
        with mesh.http(limits=httpx.Limits(max_keepalive_connections=0)) as http, ThreadPoolExecutor(4) as clients:
            leaving = [clients.submit(leave_in_the_middle, http, chat=bool(i % 3), i=i) for i in range(TIMES)]
            for each in leaving:
                each.result()
    finally:
        done.set()
        staying.join(60)
    assert beside
    assert set(beside) == {alone}
    wait_until_idle(inference)


def test_client_that_leaves_before_the_answer_begins(mesh: Mesh, channel: grpc.Channel, http: httpx.Client) -> None:
    """The client leaves during prefill, which is dropped too."""
    inference = InferenceServiceStub(channel)
    body = {"model": MODEL, "max_tokens": 500, "ignore_eos": True}
    for stream in (False, True):
        prompt = f"stream {stream} " * 2000  # differs from the start, so that the prefix cache does not help
        with pytest.raises(httpx.ReadTimeout):
            http.post(
                "/v1/completions",
                json={**body, "prompt": prompt, "stream": stream},
                timeout=httpx.Timeout(5, read=0.3),
            )
        wait_until_idle(inference)
    assert http.post("/v1/completions", json={**body, "prompt": "Hi", "max_tokens": 2}).status_code == 200


def test_native_calls_cancelled_in_the_middle(mesh: Mesh, channel: grpc.Channel) -> None:
    inference = InferenceServiceStub(channel)
    stop = pb.StopConditions(max_tokens=4000, ignore_eos=True)
    calls = [inference.Generate(pb.GenerateRequest(model=MODEL, text=f"{i}:", stop=stop)) for i in range(8)]
    for call in calls:
        assert next(call).HasField("started")
        call.cancel()
    wait_until_idle(inference)
