"""A worker runs models of tensors beside those that generate text: batches, errors by name, crashes."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.tensors import Array, from_numpy, to_numpy
from infermesh_worker.testing.processes import WorkerProcess, connected, simulated_worker_process
from infermesh_worker.testing.simulated_executor import BAD, DEADLY

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tensor_worker() -> AsyncIterator[WorkerProcess]:
    async with simulated_worker_process(
        model="tensors", sim_tensor_models="tensors", sim_batch_delay_ms=5, sim_models="words:1MiB"
    ) as process:
        await process.ready()
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tensor_stub(tensor_worker: WorkerProcess) -> AsyncIterator[InferenceServiceStub]:
    async with connected(tensor_worker) as stubs:
        yield stubs.inference


def ask(x: Array, *strings: bytes, **fields: object) -> pb.InferRequest:
    s = np.array([*strings, *([b"ab"] * (len(x) - len(strings)))], object)
    inputs = [from_numpy(x, name="x"), from_numpy(s, name="s")]
    return pb.InferRequest(inputs=inputs, **fields)  # type: ignore[arg-type] # the test knows the fields


def answer(response: pb.InferResponse) -> dict[str, Array]:
    return {tensor.name: to_numpy(tensor, field="outputs") for tensor in response.outputs}


def numbers(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((rows, 4), np.float32)


async def test_tensors_of_any_size_come_back(tensor_stub: InferenceServiceStub) -> None:
    for rows in (1, 3, 5000, 400_000):  # inline, and through shared memory
        x = numbers(rows)
        got = answer(await tensor_stub.Infer(ask(x, b"")))
        assert np.array_equal(got["y"], 2 * x)
        assert got["t"][0] == b""
        assert got["n"].shape == (rows,)


async def test_requests_run_together_and_give_the_same(tensor_stub: InferenceServiceStub) -> None:
    xs = [numbers(1, seed) for seed in range(8)]
    alone = [answer(await tensor_stub.Infer(ask(x))) for x in xs]
    together = [answer(got) for got in await asyncio.gather(*(tensor_stub.Infer(ask(x)) for x in xs))]
    assert all(int(got["n"][0]) == 1 for got in alone)
    assert max(int(got["n"][0]) for got in together) > 1
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one["y"], other["y"])


async def test_only_the_outputs_asked_for_come(tensor_stub: InferenceServiceStub) -> None:
    response = await tensor_stub.Infer(ask(numbers(2), outputs=["n", "y"]))
    assert [tensor.name for tensor in response.outputs] == ["n", "y"]


async def test_a_bad_item_does_not_fail_those_that_run_with_it(tensor_stub: InferenceServiceStub) -> None:
    bad = numbers(1)
    bad[0, 0] = BAD
    calls = [tensor_stub.Infer(ask(x)) for x in (numbers(1), bad, numbers(1))]
    first, refused, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, grpc.aio.AioRpcError)
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(first, pb.InferResponse)
    assert isinstance(last, pb.InferResponse)


async def test_a_crash_ends_its_calls_with_unavailable(
    tensor_stub: InferenceServiceStub, tensor_worker: WorkerProcess
) -> None:
    deadly = numbers(1)
    deadly[0, 0] = DEADLY
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tensor_stub.Infer(ask(deadly))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    async with asyncio.timeout(20):
        async for update in tensor_stub.WatchHealth(pb.WatchHealthRequest()):
            if update.report.models[0].state == pb.ENDPOINT_STATE_READY:
                break
    assert len((await tensor_stub.Infer(ask(numbers(1)))).outputs) == 3


async def test_health_tells_kind_tensors_and_measured_time(tensor_stub: InferenceServiceStub) -> None:
    await tensor_stub.Infer(ask(numbers(1)))
    report = (await tensor_stub.Health(pb.HealthRequest())).report
    assert list(report.kinds) == [pb.MODEL_KIND_GENERATE, pb.MODEL_KIND_INFER]
    (model,) = report.models
    assert model.kind == pb.MODEL_KIND_INFER
    assert [(given.name, list(given.shape)) for given in model.inputs] == [("x", [-1, 4]), ("s", [-1])]
    assert model.batching.max_size == 8
    assert model.load.request_s >= 0.001
    kinds = {model.name: model.kind for model in report.available}
    assert kinds == {"tensors": pb.MODEL_KIND_INFER, "words": pb.MODEL_KIND_GENERATE}


async def test_calls_for_other_kinds_are_refused_by_name(tensor_stub: InferenceServiceStub) -> None:
    call = tensor_stub.Generate(pb.GenerateRequest(text="hello"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "turns tensors into tensors" in caught.value.details()
