"""A router shares load among simulated workers, each a real process, and survives when one is killed or frozen."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh.openai.v1 import openai_pb2, openai_pb2_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.errors import ContextLengthExceeded, InfermeshError, InvalidArgument, Unavailable
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker, simulated_worker_process
from tests.integration.conditions import ready


def body(**fields: object) -> HttpBody:
    request = {"model": "simulated", "messages": [{"role": "user", "content": "Hello"}], "seed": 1} | fields
    return HttpBody(data=json.dumps(request).encode())


async def chat(router: RunningRouter, **fields: object) -> dict[str, Any]:
    call = openai_pb2_grpc.OpenAIServiceStub(router.channel).CreateChatCompletion(body(**fields))
    (answer,) = [message async for message in call]
    completion: dict[str, Any] = json.loads(answer.data)
    return completion


async def refused(router: RunningRouter, **fields: object) -> InfermeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat(router, **fields)
    return from_rpc_error(caught.value)


def events(data: bytes) -> list[Any]:
    """The events of a stream as JSON; the last one is the string "[DONE]"."""
    blocks = data.decode().removesuffix("\n\n").split("\n\n")
    return [part if (part := block.removeprefix("data: ")) == "[DONE]" else json.loads(part) for block in blocks]


async def test_a_streamed_chat_equals_the_whole_one() -> None:
    async with simulated_worker() as address, running_router(address) as router:
        await router.endpoints_when(ready(1))
        whole = await chat(router, max_tokens=24)
        choice = whole["choices"][0]
        assert choice["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 24
        call = openai_pb2_grpc.OpenAIServiceStub(router.channel).CreateChatCompletion(
            body(max_tokens=24, stream=True, stream_options={"include_usage": True})
        )
        *chunks, usage, done = events(b"".join([message.data async for message in call]))
        assert done == "[DONE]"
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == choice["message"]["content"]
        assert usage["usage"]["completion_tokens"] == 24
        assert usage["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


async def serve_at_once(router: RunningRouter, count: int) -> list[str]:
    """The addresses of the endpoints that served `count` requests sent together."""
    stub = pb_grpc.InferenceServiceStub(router.channel)
    request = pb.GenerateRequest(model="simulated", text="Hello", stop=pb.StopConditions(max_tokens=16))

    async def served_by() -> str:
        first, *_ = [event async for event in stub.Generate(request)]
        return str(first.started.endpoint)

    return await asyncio.gather(*(served_by() for _ in range(count)))


async def test_two_workers_share_the_load() -> None:
    async with (
        simulated_worker(sim_itl_s=0.02) as one,
        simulated_worker(sim_itl_s=0.02) as two,
        running_router(one, two) as router,
    ):
        await router.endpoints_when(ready(2))
        served = await serve_at_once(router, 12)
        assert {served.count(one), served.count(two)} == {6}


async def test_the_quicker_device_gets_more() -> None:
    async with (
        simulated_worker(sim_itl_s=0.002, sim_device="xpu") as quick,
        simulated_worker(sim_itl_s=0.05) as slow,
        running_router(quick, slow) as router,
    ):
        await router.endpoints_when(ready(2))
        for address in (quick, slow):  # one request each, so that both have been measured
            assert await chat(router, max_tokens=16, device=address)
        await router.endpoints_when(lambda es: all(e.report.load.decode_tokens_per_s for e in es))
        served = await serve_at_once(router, 12)
        assert served.count(quick) > served.count(slow)


async def test_the_streams_of_a_killed_worker_continue_on_another() -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(simulated_worker_process(sim_itl_s=0.05)) for _ in range(2)]
        by_address = {await worker.ready(): worker for worker in workers}
        router = await stack.enter_async_context(running_router(*by_address))
        await router.endpoints_when(ready(2))
        undisturbed = (await chat(router, max_tokens=40))["choices"][0]["message"]["content"]
        call = openai_pb2_grpc.OpenAIServiceStub(router.channel).CreateChatCompletion(
            body(max_tokens=40, stream=True, stream_options={"include_usage": True})
        )
        data = (await call.read()).data
        left = dict(await call.initial_metadata())["x-infermesh-endpoint"]
        by_address[left].process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(20):
            while (message := await call.read()) is not grpc.aio.EOF:
                data += message.data
        *chunks, usage, done = events(data)
        assert done == "[DONE]"
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == undisturbed
        assert usage["usage"]["completion_tokens"] == 40
        (failover,) = usage["infermesh"]["failovers"]
        assert (failover["from"], failover["to"]) == (left, next(a for a in by_address if a != left))
        await router.endpoints_when(ready(1))


async def test_a_stream_that_no_worker_can_continue_ends_with_an_error_event() -> None:
    async with (
        simulated_worker_process(sim_itl_s=0.05) as worker,
        running_router(await worker.ready(), failover_wait_s=0.1) as router,
    ):
        await router.endpoints_when(ready(1))
        call = openai_pb2_grpc.OpenAIServiceStub(router.channel).CreateChatCompletion(
            body(max_tokens=1000, stream=True)
        )
        data = (await call.read()).data
        worker.process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(20):
            while (message := await call.read()) is not grpc.aio.EOF:
                data += message.data
        assert await call.code() is grpc.StatusCode.OK
        *_, error, done = events(data)
        assert error["error"]["type"] == "server_error"
        assert done == "[DONE]"


async def test_clients_do_not_notice_a_worker_killed_before_its_first_token() -> None:
    async with AsyncExitStack() as stack:
        stuck = await stack.enter_async_context(simulated_worker_process(sim_prefill_tokens_per_s=1))
        other = await stack.enter_async_context(simulated_worker(sim_itl_s=0.02))
        router = await stack.enter_async_context(running_router(await stuck.ready(), other))
        await router.endpoints_when(ready(2))
        answers = [asyncio.create_task(chat(router, max_tokens=40)) for _ in range(2)]
        await router.endpoints_when(lambda es: all(e.in_flight == 1 for e in es))
        stuck.process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(20):
            for answer in await asyncio.gather(*answers):
                assert answer["usage"]["completion_tokens"] == 40


async def test_a_frozen_worker_is_given_up_once_its_connection_is_probed() -> None:
    """As if its machine or network were gone: no connection is closed, and nothing answers."""
    async with AsyncExitStack() as stack:
        frozen = await stack.enter_async_context(simulated_worker_process(sim_prefill_tokens_per_s=1))
        other = await stack.enter_async_context(simulated_worker())
        address = await frozen.ready()
        router = await stack.enter_async_context(running_router(address, other, keepalive_s=6, keepalive_timeout_s=0.5))
        await router.endpoints_when(ready(2))
        waiting = [asyncio.create_task(chat(router, max_tokens=4)) for _ in range(2)]
        await router.endpoints_when(lambda es: any(e.address == address and e.in_flight for e in es))
        frozen.process.send_signal(signal.SIGSTOP)
        stack.callback(frozen.process.send_signal, signal.SIGCONT)
        async with asyncio.timeout(20):
            for answer in await asyncio.gather(*waiting):
                assert answer["usage"]["completion_tokens"] == 4
            await router.endpoints_when(lambda es: [e.connected for e in es].count(True) == 1)
            assert (await chat(router, max_tokens=4))["usage"]["completion_tokens"] == 4
        frozen.process.send_signal(signal.SIGCONT)
        await router.endpoints_when(ready(2))


async def test_without_a_ready_worker_requests_are_refused_with_a_time_to_retry() -> None:
    async with simulated_worker_process() as worker:
        address = await worker.ready()
        async with running_router(address) as router:
            await router.endpoints_when(ready(1))
            worker.process.send_signal(signal.SIGKILL)
            await router.endpoints_when(ready(0))
            error = await refused(router)
            assert isinstance(error, Unavailable)
            assert error.retry_after_s == 1.0
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await openai_pb2_grpc.OpenAIServiceStub(router.channel).GetHealth(openai_pb2.GetHealthRequest())
            assert ("retry-after", "1") in tuple(caught.value.trailing_metadata())


async def test_a_workers_refusals_carry_openais_names() -> None:
    async with simulated_worker(sim_context_length=64) as address, running_router(address) as router:
        await router.endpoints_when(ready(1))
        error = await refused(router, messages=[{"role": "user", "content": "x" * 100}])
        assert isinstance(error, ContextLengthExceeded)
        assert error.metadata["context_length"] == "64"
        assert int(error.metadata["prompt_tokens"]) > 100
        error = await refused(router, logit_bias={"100000": 1})
        assert isinstance(error, InvalidArgument)
        assert next(iter(error.fields)).startswith("logit_bias")
        schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "nonsense"}}}
        error = await refused(router, response_format=schema)
        assert isinstance(error, InvalidArgument)
        assert next(iter(error.fields)) == "response_format"


async def test_workers_join_and_leave_by_name() -> None:
    names: list[str] = []

    async def resolve(_host: str, _port: int) -> list[str]:
        return list(names)

    async with simulated_worker() as one, simulated_worker() as two:
        names.append(one)
        async with running_router(
            "dns:///workers:9000", resolve=resolve, resolve_interval_s=0.05, connected=False
        ) as router:
            await router.endpoints_when(ready(1))
            names.append(two)
            await router.endpoints_when(ready(2))
            names.remove(one)
            (left,) = await router.endpoints_when(lambda listed: len(listed) == 1)
            assert left.address == two
            assert (await chat(router, max_tokens=2))["usage"]["completion_tokens"] == 2


async def test_a_client_that_leaves_frees_the_worker() -> None:
    async with simulated_worker(sim_itl_s=0.02) as address, running_router(address) as router:
        await router.endpoints_when(ready(1))
        call = openai_pb2_grpc.OpenAIServiceStub(router.channel).CreateChatCompletion(
            body(max_tokens=4000, stream=True)
        )
        await call.read()
        await router.endpoints_when(lambda es: es[0].report.load.running == 1)
        call.cancel()
        (endpoint,) = await router.endpoints_when(lambda es: es[0].report.load.running == 0 and not es[0].in_flight)
        assert endpoint.report.load.kv_cache_usage == 0


async def test_a_router_process_serves_and_stays_small(tmp_path: Path) -> None:
    socket = f"unix:{tmp_path}/admin.sock"
    async with simulated_worker() as address:
        process = await WorkerProcess.start(
            "infermesh_router", workers=address, metrics_listen="127.0.0.1:0", admin_listen=socket
        )
        try:
            async with (
                grpc.aio.insecure_channel(await process.ready()) as channel,
                grpc.aio.insecure_channel(socket) as admin,
            ):
                await process.wait_for(f"connected to endpoint {address}")
                router = RunningRouter("", channel, socket, admin)
                await router.endpoints_when(ready(1))
                assert await chat(router, max_tokens=8)
                assert psutil.Process(process.pid).memory_info().rss < 120 * 2**20
        finally:
            assert await process.stop() == 0


async def test_a_router_starts_without_workers_and_refuses_bad_settings() -> None:
    process = await WorkerProcess.start("infermesh_router")
    try:
        async with grpc.aio.insecure_channel(await process.ready()) as channel:
            assert isinstance(await refused(RunningRouter("", channel)), Unavailable)
    finally:
        assert await process.stop() == 0
    process = await WorkerProcess.start("infermesh_router", workers="nonsense", attempts=0)
    assert await process.wait() == 2
    told = [line["message"] for line in process.log]
    assert {line.split("=")[0] for line in told} == {"settings: INFERMESH_WORKERS", "settings: INFERMESH_ATTEMPTS"}
