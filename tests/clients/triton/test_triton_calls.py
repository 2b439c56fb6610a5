"""tritonclient, unmodified: shared memory, asynchronous calls, streams, cancellation and texts."""

import asyncio
import os
import queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException, shared_memory

from tests.clients.triton.client import WAIT_S, Kind, X, same


def test_shared_memory(kind: Kind) -> None:
    key = f"infermesh-client-{os.getpid()}"
    region = shared_memory.create_shared_memory_region("r", key, 4 * X.nbytes)
    client = kind.client
    try:
        shared_memory.set_shared_memory_region(region, [X])
        client.register_system_shared_memory("r/1", f"/{key}", 4 * X.nbytes)
        status = client.get_system_shared_memory_status("r/1")
        assert "r/1" in (status.regions if kind.module is grpc_client else [each["name"] for each in status])
        given = kind.module.InferInput("x", list(X.shape), "FP32")
        given.set_shared_memory("r/1", X.nbytes)
        wanted = kind.module.InferRequestedOutput("y")
        wanted.set_shared_memory("r/1", X.nbytes, X.nbytes)
        answer = client.infer("double", [given], outputs=[wanted])
        assert answer.get_output("y") is not None
        assert same(shared_memory.get_contents_as_numpy(region, np.float32, list(X.shape), X.nbytes), 2 * X)
        given.set_shared_memory("r/1", X.nbytes, 4 * X.nbytes)
        with pytest.raises(InferenceServerException, match="beyond its end"):
            client.infer("double", [given])
        with pytest.raises(InferenceServerException, match="must be the name"):
            client.register_system_shared_memory("r2", "/../etc/passwd", 1)
        client.unregister_system_shared_memory("r/1")
        with pytest.raises(InferenceServerException, match="no shared memory region"):
            client.infer("double", [given])
    finally:
        client.unregister_system_shared_memory()
        shared_memory.destroy_shared_memory_region(region)


def test_async_over_grpc_and_cancellation(over_grpc: Kind) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def take(result: Any, error: Any) -> None:
        answers.put((result, error))

    before = _cancelled(over_grpc)
    over_grpc.client.async_infer("double", [over_grpc.input("x", X)], take)
    result, error = answers.get(timeout=WAIT_S)
    assert error is None
    assert same(result.as_numpy("y"), 2 * X)
    call = over_grpc.client.async_infer("slow", [over_grpc.input("x", X)], take, client_timeout=WAIT_S)
    with pytest.raises(InferenceServerException, match=r"Deadline Exceeded|DEADLINE"):
        over_grpc.client.infer("slow", [over_grpc.input("x", X)], client_timeout=0.5)
    call.cancel()
    _, error = answers.get(timeout=WAIT_S)
    assert "CANCELLED" in error.status()
    for _ in range(1000):
        if _cancelled(over_grpc) == before + 2:
            return
    pytest.fail("the worker was not told that the calls were cancelled")


def _cancelled(kind: Kind) -> int:
    return int(kind.client.infer("cancelled", [kind.input("x", X)]).as_numpy("count")[0])


def test_async_over_http(over_http: Kind) -> None:
    running = [over_http.client.async_infer("double", [over_http.input("x", X + i)]) for i in range(4)]
    for i, each in enumerate(running):
        assert same(each.get_result().as_numpy("y"), 2 * (X + i))


async def _asyncio(module: Any, address: str) -> np.ndarray:
    async with module.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        given = module.InferInput("x", list(X.shape), "FP32")
        given.set_data_from_numpy(X)
        answer: np.ndarray = (await client.infer("double", [given])).as_numpy("y")
        return answer


def test_asyncio_clients(mesh: dict[str, str]) -> None:
    assert same(asyncio.run(_asyncio(grpc_aio, mesh["grpc"])), 2 * X)
    assert same(asyncio.run(_asyncio(http_aio, mesh["http"])), 2 * X)


def _text_inputs(text: str, *, stream: bool) -> list[Any]:
    given = grpc_client.InferInput("text_input", [1], "BYTES")
    given.set_data_from_numpy(np.array([text], object))
    streams = grpc_client.InferInput("stream", [1], "BOOL")
    streams.set_data_from_numpy(np.array([stream]))
    return [given, streams]


def test_streams_of_tensors_and_texts(over_grpc: Kind) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = over_grpc.client
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer("double", [over_grpc.input("x", X)], request_id="1")
        result, error = answers.get(timeout=WAIT_S)  # it comes while the stream is open
        assert error is None
        assert same(result.as_numpy("y"), 2 * X)
        client.async_stream_infer("nothing", [over_grpc.input("x", X)], request_id="2")
        result, error = answers.get(timeout=WAIT_S)
        assert "nothing" in str(error)
        client.async_stream_infer("m", _text_inputs("hi", stream=True), enable_empty_final_response=True)
        texts = []
        while True:
            result, error = answers.get(timeout=WAIT_S)
            assert error is None
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
            texts.append(result.as_numpy("text_output")[0].decode())
        assert texts == ["Hello", " world"]
    finally:
        client.stop_stream()


def test_a_stream_can_be_cancelled(over_grpc: Kind) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    before = _cancelled(over_grpc)
    over_grpc.client.start_stream(lambda result, error: answers.put((result, error)))
    over_grpc.client.async_stream_infer("double", [over_grpc.input("x", X)])
    answers.get(timeout=WAIT_S)
    over_grpc.client.async_stream_infer("slow", [over_grpc.input("x", X)])
    with pytest.raises(
        InferenceServerException, match=r"Deadline Exceeded|DEADLINE"
    ):  # by then the other one runs, too
        over_grpc.client.infer("slow", [over_grpc.input("x", X)], client_timeout=0.5)
    over_grpc.client.stop_stream(cancel_requests=True)
    for _ in range(1000):
        if _cancelled(over_grpc) == before + 2:
            return
    pytest.fail("the worker was not told that the stream was cancelled")


def test_texts(kind: Kind) -> None:
    given = kind.module.InferInput("text_input", [1], "BYTES")
    given.set_data_from_numpy(np.array(["hi"], object))
    answer = kind.client.infer("m", [given], parameters={"max_tokens": 5, "temperature": 0.5})
    assert answer.as_numpy("text_output").tolist() == [b"Hello world"]
