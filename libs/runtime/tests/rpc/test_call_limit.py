"""However many calls come at once, each is answered or told when to retry; none is dropped."""

import asyncio
from collections import Counter

import grpc
import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.limits.call_limit import CallLimit
from infermesh_runtime.rpc.server import Server
from infermesh_runtime.rpc.status import from_rpc_error

METHOD = "/t.Patient/Wait"
CALLS, MOST = 2500, 1000


async def test_a_burst_of_calls_beyond_the_limit_is_refused_with_a_reason() -> None:
    may_end, running = asyncio.Event(), 0

    async def wait(_request: bytes, _context: RpcContext) -> bytes:
        nonlocal running
        running += 1
        await may_end.wait()
        return b"done"

    server = Server(listen="127.0.0.1:0", drain_s=1, observers=(), limit=CallLimit(MOST, {METHOD}))
    server.add_service("t.Patient", {"Wait": grpc.unary_unary_rpc_method_handler(wait)})
    port = await server.start()
    outcomes: Counter[str] = Counter()

    async def call(channel: grpc.aio.Channel) -> None:
        try:
            await channel.unary_unary(METHOD)(b"", timeout=60)
            outcomes["served"] += 1
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            outcomes[f"{refusal.reason} {refusal.retry_after_s}"] += 1
            if outcomes.total() == CALLS - MOST:
                may_end.set()

    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.gather(*(call(channel) for _ in range(CALLS)))
            assert outcomes == {"served": MOST, "TOO_MANY_CALLS 1.0": CALLS - MOST}
            assert running == MOST
            await channel.unary_unary(METHOD)(b"", timeout=60)  # there is room again
    finally:
        await server.stop()


async def test_other_methods_are_free() -> None:
    limit = CallLimit(0, {METHOD})
    with limit.entered("/t.Free/Wait"):
        pass
    with pytest.raises(ResourceExhausted), limit.entered(METHOD):
        pass
