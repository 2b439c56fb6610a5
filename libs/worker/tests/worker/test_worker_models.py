"""A worker of several models: loading, evicting, unloading, and which model a request means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.admin.v1.admin_pb2_grpc import EndpointServiceStub
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import Code, InfermeshError
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import WorkerStubs, connected, simulated_worker_process

pytestmark = pytest.mark.asyncio(loop_scope="module")


def ask(model: str, max_tokens: int = 8, **fields: Any) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=max_tokens, ignore_eos=True)
    return pb.GenerateRequest(model=model, text="hello", seed=1, stop=stop, **fields)


async def text(stubs: WorkerStubs, model: str) -> str:
    events = [event async for event in stubs.inference.Generate(ask(model), timeout=30)]
    assert events[0].started.model == model
    return "".join(event.delta.text for event in events)


async def refused(call: Awaitable[object]) -> InfermeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def generate(stubs: WorkerStubs, model: str, **fields: Any) -> Awaitable[pb.GenerateResponse]:
    first: Awaitable[pb.GenerateResponse] = stubs.inference.Generate(ask(model, **fields), timeout=60).read()
    return first


def names(report: pb.HealthReport) -> list[str]:
    return [model.name for model in report.models]


@asynccontextmanager
async def several(**settings: object) -> AsyncIterator[WorkerStubs]:
    """A worker for 100 bytes of models, of which none is loaded."""
    chosen = {"model": "none", "sim_models": "a:40,b:40,c:40,d:70", "sim_memory_bytes": 100, "sim_itl_s": 0.001}
    async with simulated_worker_process(**chosen | settings) as worker, connected(worker) as stubs:
        yield stubs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[WorkerStubs]:
    """The worker of the tests that need no settings of their own."""
    async with several() as stubs:
        yield stubs


@pytest_asyncio.fixture(loop_scope="module")
async def stubs(shared: WorkerStubs) -> AsyncIterator[WorkerStubs]:
    """The shared worker, with no model loaded."""
    yield shared
    for name in names(await shared.report()):
        await shared.endpoint.UnloadModel(admin.UnloadModelRequest(model=name, force=True))


async def test_worker_without_a_model_is_ready_and_says_what_it_could_load(stubs: WorkerStubs) -> None:
    report = await stubs.report()
    assert (report.state, list(report.models)) == (pb.ENDPOINT_STATE_READY, [])
    assert {model.name: model.memory_bytes for model in report.available} == {"a": 40, "b": 40, "c": 40, "d": 70}
    assert (report.device.memory_total_bytes, report.device.memory_free_bytes) == (100, 100)
    assert report.device.kind == pb.DEVICE_KIND_CPU
    assert (report.load.max_running, report.load.max_waiting) == (64, 64)
    error = await refused(generate(stubs, ""))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "MODEL_NOT_LOADED")
    assert "a, b, c, d" in error.message


async def test_loaded_models_answer_each_under_its_name(stubs: WorkerStubs) -> None:
    assert await stubs.load("a", "b") == []
    report = await stubs.report()
    assert names(report) == ["a", "b"]
    assert [(model.memory_bytes, model.pinned, model.sequences) for model in report.models] == [(40, False, 0)] * 2
    assert report.device.memory_free_bytes == 20
    assert report.load.max_running == 128
    assert report.load.kv_cache_tokens == 2 * 32768
    assert await text(stubs, "a") == await text(stubs, "b")
    assert all(model.HasField("last_used_at") for model in (await stubs.report()).models)


async def test_a_model_that_loads_reports_how_far_it_is(stubs: WorkerStubs) -> None:
    loading = asyncio.create_task(stubs.load("a"))
    seen: list[pb.ModelStatus] = []
    watching = stubs.inference.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
    async for answer in watching:
        seen += [model for model in answer.report.models if model.name == "a"]
        if seen and seen[-1].state == pb.ENDPOINT_STATE_READY:
            break
    watching.cancel()
    await loading
    *before, ready = seen
    assert before
    assert all(model.HasField("load_left_s") and 0 <= model.load_fraction < 1 for model in before)
    assert not ready.HasField("load_fraction")
    assert not ready.HasField("load_left_s")


async def test_which_model_a_request_means(stubs: WorkerStubs) -> None:
    await stubs.load("a")
    assert (await generate(stubs, "")).started.model == "a"
    error = await refused(generate(stubs, "b"))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "MODEL_NOT_LOADED")
    assert "available here but not loaded" in error.message
    error = await refused(generate(stubs, "z"))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "MODEL_NOT_FOUND")
    await stubs.load("b")
    error = await refused(generate(stubs, ""))
    assert error.code is Code.INVALID_ARGUMENT
    assert "a, b" in error.fields["model"]


async def test_least_recently_used_idle_model_gives_way(stubs: WorkerStubs) -> None:
    await stubs.load("a", "b")
    await text(stubs, "a")
    assert await stubs.load("c") == ["b"]
    assert names(await stubs.report()) == ["a", "c"]
    assert await stubs.load("a") == []


async def test_pinned_and_used_models_stay_and_the_refusal_says_what_is_free(stubs: WorkerStubs) -> None:
    await stubs.load("a", pinned=True)
    await stubs.load("b")
    running = stubs.inference.Generate(ask("b", max_tokens=8000))
    await running.read()
    error = await refused(stubs.load("c"))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "MODEL_DOES_NOT_FIT")
    assert (error.metadata["needed_bytes"], error.metadata["free_bytes"]) == ("40", "20")
    running.cancel()
    await stubs.report_when(lambda report: not report.load.running)
    error = await refused(stubs.load("d"))
    assert (error.metadata["needed_bytes"], error.metadata["free_bytes"]) == ("70", "60")
    assert names(await stubs.report()) == ["a", "b"]
    assert await stubs.load("c") == ["b"]


async def test_the_model_of_the_settings_is_pinned() -> None:
    async with several(model="a") as stubs:
        assert [model.pinned for model in (await stubs.report()).models] == [True]
        error = await refused(stubs.load("d"))
        assert error.metadata["free_bytes"] == "60"
        assert await stubs.load("b", "c") == ["b"]


async def test_the_model_of_the_settings_is_pinned_again_when_it_was_unloaded() -> None:
    async with several(model="a") as stubs:
        await stubs.endpoint.UnloadModel(admin.UnloadModelRequest(model="a"))
        assert await stubs.load("a") == []
        assert [model.pinned for model in (await stubs.report()).models] == [True]


async def test_a_load_waits_for_the_home_model_so_that_its_memory_is_known() -> None:
    settings = {"model": "a", "sim_models": "a:40,b:40", "sim_memory_bytes": 100, "sim_load_s": 0.5}
    async with simulated_worker_process(**settings) as worker:
        async with grpc.aio.insecure_channel(await worker.address()) as channel:
            endpoint = EndpointServiceStub(channel)
            await endpoint.LoadModel(admin.LoadModelRequest(model="b"), timeout=60)
        async with connected(worker) as stubs:
            assert {model.name: model.state for model in (await stubs.report()).models} == {
                "a": pb.ENDPOINT_STATE_READY,
                "b": pb.ENDPOINT_STATE_READY,
            }


async def test_memory_bytes_bounds_all_models_together() -> None:
    async with several(memory_bytes=50) as stubs:
        assert (await stubs.report()).device.memory_total_bytes == 50
        assert await stubs.load("a", "b") == ["a"]
        assert (await stubs.report()).device.memory_free_bytes == 10


async def test_loads_at_the_same_time_share_one_and_come_one_after_the_other() -> None:
    async with several(sim_load_s=1) as stubs:
        loads = [asyncio.create_task(stubs.load(name)) for name in ("a", "a", "b", "a")]
        report = await stubs.report_when(lambda report: bool(report.models))
        (model,) = report.models
        assert (model.state, model.memory_bytes) == (pb.ENDPOINT_STATE_LOADING, 40)
        assert report.state == pb.ENDPOINT_STATE_READY
        error = await refused(generate(stubs, model.name))
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "WORKER_LOADING")
        assert await asyncio.gather(*loads) == [[], [], [], []]
        assert set(names(await stubs.report())) == {"a", "b"}


async def test_loading_one_model_does_not_hold_up_unloading_or_asking_for_another() -> None:
    async with several(sim_load_s=2) as stubs:
        await stubs.load("b", "c")
        loading = asyncio.create_task(stubs.load("a"))  # which evicts b
        await stubs.report_when(lambda report: "a" in names(report))
        assert await stubs.load("c") == []
        await stubs.endpoint.UnloadModel(admin.UnloadModelRequest(model="c"))
        report = await stubs.report()
        assert [(model.name, model.state) for model in report.models] == [("a", pb.ENDPOINT_STATE_LOADING)]
        assert not loading.done()
        await stubs.endpoint.UnloadModel(admin.UnloadModelRequest(model="a"))  # waits for its own load
        assert await loading == ["b"]
        assert names(await stubs.report()) == []


async def test_unloads_of_one_model_at_the_same_time_and_a_load_share_its_memory(stubs: WorkerStubs) -> None:
    await stubs.load("d")
    unload = admin.UnloadModelRequest(model="d")
    unloads = [asyncio.ensure_future(stubs.endpoint.UnloadModel(unload)) for _ in range(2)]
    load = asyncio.ensure_future(stubs.load("a", "b"))
    results = await asyncio.gather(*unloads, load, return_exceptions=True)
    assert isinstance(results[2], list)
    for result in results[:2]:  # the later one may find it gone
        assert isinstance(result, admin.UnloadModelResponse) or from_rpc_error(result).reason == "MODEL_NOT_LOADED"
    assert names(await stubs.report()) == ["a", "b"]


async def test_a_load_goes_on_when_who_asked_is_gone() -> None:
    async with several(sim_load_s=0.3) as stubs:
        call = stubs.endpoint.LoadModel(admin.LoadModelRequest(model="a"))
        await stubs.report_when(lambda report: bool(report.models))
        call.cancel()
        await stubs.report_when(lambda report: report.models[0].state == pb.ENDPOINT_STATE_READY)
        await text(stubs, "a")


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (admin.LoadModelRequest(), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (admin.LoadModelRequest(model="z"), Code.NOT_FOUND, "MODEL_NOT_FOUND"),
        (admin.LoadModelRequest(model="a", keep_alive_s=-1), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (admin.LoadModelRequest(model="a", keep_alive_s=float("nan")), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (admin.UnloadModelRequest(model="a"), Code.NOT_FOUND, "MODEL_NOT_LOADED"),
    ],
)
async def test_wrong_requests_are_refused(
    stubs: WorkerStubs, request_: admin.LoadModelRequest | admin.UnloadModelRequest, code: Code, reason: str
) -> None:
    endpoint = stubs.endpoint
    load = isinstance(request_, admin.LoadModelRequest)
    error = await refused((endpoint.LoadModel if load else endpoint.UnloadModel)(request_))
    assert (error.code, error.reason) == (code, reason)


async def test_idle_model_is_unloaded_after_its_keep_alive_time_unless_it_has_none() -> None:
    async with several(keep_alive_s=0.2) as stubs:
        await stubs.load("b", keep_alive_s=0)
        await stubs.load("a")
        await stubs.report_when(lambda report: names(report) == ["b"])
        assert await text(stubs, "b")


async def test_model_in_use_is_unloaded_by_force_only_and_its_streams_are_told(stubs: WorkerStubs) -> None:
    await stubs.load("a")
    running = stubs.inference.Generate(ask("a", max_tokens=8000))
    await running.read()
    error = await refused(stubs.endpoint.UnloadModel(admin.UnloadModelRequest(model="a")))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "MODEL_IN_USE")
    await stubs.endpoint.UnloadModel(admin.UnloadModelRequest(model="a", force=True))

    async def rest() -> None:
        while await running.read() is not grpc.aio.EOF:
            pass

    error = await refused(rest())
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "MODEL_UNLOADED")
    report = await stubs.report()
    assert (list(report.models), report.device.memory_free_bytes) == ([], 100)
    await stubs.load("a")
    await text(stubs, "a")


async def test_the_queue_is_bounded_in_sequences() -> None:
    async with several(max_sequences=2, max_waiting=3) as stubs:
        await stubs.load("a", "b")
        running = [stubs.inference.Generate(ask("a", max_tokens=8000, n=n)) for n in (1, 4)]
        for call in running:
            await call.read()
        await stubs.report_when(lambda report: report.load.waiting == 3)
        error = await refused(generate(stubs, "a"))
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert error.retry_after_s
        by_name = {model.name: model.load for model in (await stubs.report()).models}
        assert (by_name["a"].running, by_name["a"].waiting, by_name["b"].running) == (2, 3, 0)
        assert {(load.max_running, load.max_waiting) for load in by_name.values()} == {(2, 3)}
        assert (await generate(stubs, "b", n=5)).HasField("started")  # the other model's queue is its own
        for call in running:
            call.cancel()
        await stubs.report_when(lambda report: not report.models[0].sequences)
        assert (await generate(stubs, "a", n=128)).HasField("started")
