"""Silent endpoints are left after a while, over scripted workers on real ports."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import StartRouter, StartWorker, delta, finished, started
from infermesh_router.testing.streams import ask, generate, hold, text
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def test_silence_is_borne_when_there_is_nobody_else(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=hold(0.5))
    settings = {"first_token_timeout_s": 0.1, "first_token_timeout_max_s": 60, "stall_timeout_s": 0.1}
    assert text(await generate(await start_router(worker, **settings))) == "Hello world"


async def test_but_not_for_ever(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=hold())
    settings = {"first_token_timeout_s": 0.1, "first_token_timeout_max_s": 0.2}
    with pytest.raises(Unavailable) as caught:
        await generate(await start_router(worker, **settings))
    assert caught.value.reason == "FIRST_TOKEN_TIMEOUT"


async def test_a_client_that_reads_slowly_is_no_silence(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def much(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        for _ in range(40):
            yield delta("x" * 50_000)
        yield finished()

    workers = [await start_worker(script=much) for _ in range(2)]
    router = await start_router(*workers, stall_timeout_s=0.3)
    call = router.inference.Generate(ask(), timeout=20)
    await call.read()
    await asyncio.sleep(0.8)  # longer than the stall timeout
    events = [event async for event in _rest(call)]
    assert len(text(events)) == 40 * 50_000
    assert not events[-1].finished.failovers


async def test_a_slow_first_token_makes_no_later_silence_longer(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def slow_then_silent(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        if request.generated:
            yield delta(" there")
            yield finished()
            return
        await asyncio.sleep(0.6)  # 50 such gaps would be 30 s
        yield delta("Hello")
        await asyncio.Event().wait()

    workers = [await start_worker(script=slow_then_silent) for _ in range(2)]
    router = await start_router(*workers, stall_timeout_s=0.2, first_token_timeout_s=5)
    async with asyncio.timeout(10):
        events = await generate(router)
    assert text(events) == "Hello there"
    assert events[-1].finished.failovers[0].reason == "STREAM_SILENT"


async def _rest(call: grpc.aio.UnaryStreamCall) -> AsyncIterator[pb.GenerateResponse]:
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event
