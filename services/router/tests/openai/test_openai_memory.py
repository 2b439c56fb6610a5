"""What a request holds is freed with its end: a body of 64 MiB must not wait for the cyclic collector."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.job import Job
from infermesh_router.requests.call import Call
from infermesh_router.testing.router import Script, StartRouter, StartWorker, delta, say_hello, started
from infermesh_runtime.errors import ContextLengthExceeded, Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def refuse(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    raise ContextLengthExceeded("too long", fields={"chat.messages": "too long"})
    yield


async def refuse_without_a_field(
    request: pb.GenerateRequest, context: RpcContext
) -> AsyncIterator[pb.GenerateResponse]:
    raise ContextLengthExceeded("too long")
    yield


async def be_unavailable(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    raise Unavailable("busy")
    yield


async def fail_midway(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started()
    yield delta("a")
    raise Unavailable("crashed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [say_hello, refuse, refuse_without_a_field, be_unavailable, fail_midway])
async def test_a_request_leaves_no_cycles(
    start_worker: StartWorker, start_router: StartRouter, script: Script, stream: bool
) -> None:
    router = await start_router(await start_worker(script=script))
    stub = router.openai
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    gc.collect()
    gc.disable()
    try:
        try:
            async for _ in stub.CreateChatCompletion(HttpBody(data=json.dumps(body).encode())):
                pass
        except grpc.aio.AioRpcError:
            pass
        for _ in range(500):  # the handler ends a little after its client is told
            if not held():
                break
            await asyncio.sleep(0.01)
        assert not held()
    finally:
        gc.enable()


def held() -> list[object]:
    return [kept for kept in gc.get_objects() if type(kept) in (Call, Job)]
