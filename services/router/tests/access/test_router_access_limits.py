"""A router with keys that have limits: what is counted, refused and told, over gRPC and OpenAI's API."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.keyed import ASKS, StartKeyed, chat, complete, embed, generate, refusal
from infermesh_router.testing.keys import bearer
from infermesh_router.testing.router import delta, finished, started
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.rpc.context import RpcContext


@pytest.mark.parametrize("ask", ASKS)
async def test_requests_over_the_limit(keyed: StartKeyed, ask: Any) -> None:
    router = await keyed(a={"requests_per_minute": 2}, b={"requests_per_minute": 2})
    headers = await ask(router, bearer("a"))
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert "x-ratelimit-limit-tokens" not in headers
    await ask(router, bearer("a"))
    error, trailing = await refusal(ask(router, bearer("a")))
    assert (type(error), error.reason) == (ResourceExhausted, "RATE_LIMIT_EXCEEDED")
    assert 20 < int(trailing["retry-after"]) <= 30
    assert trailing["x-ratelimit-remaining-requests"] == "0"
    await ask(router, bearer("b"))


@pytest.mark.parametrize(("ask", "used"), [(generate, 5), (chat, 5), (complete, 10), (embed, 1)])
async def test_tokens_are_what_was_used_in_the_end(keyed: StartKeyed, ask: Any, used: int) -> None:
    router = await keyed(a={"tokens_per_minute": 12})  # so few that none comes back for five seconds
    began_s = time.monotonic()
    await ask(router, bearer("a"))
    headers = await generate(router, bearer("a"))
    came_back = (time.monotonic() - began_s) * 12 / 60
    assert headers["x-ratelimit-limit-tokens"] == "12"
    assert 12 - used <= int(headers["x-ratelimit-remaining-tokens"]) <= 12 - used + came_back


async def test_what_failed_used_no_tokens(keyed: StartKeyed) -> None:
    router = await keyed(a={"tokens_per_minute": 1000})
    await refusal(chat(router, bearer("a"), model="none", messages=[{"role": "user", "content": "x" * 4000}]))
    assert (await generate(router, bearer("a")))["x-ratelimit-remaining-tokens"] == "1000"


async def test_a_prompt_is_reserved_before_it_runs(keyed: StartKeyed) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        begun.set()
        await go_on.wait()
        yield started(request.model)
        yield finished()

    router = await keyed(worker={"script": wait}, a={"tokens_per_minute": 1000})
    first = asyncio.create_task(generate(router, bearer("a"), text="x" * 3600))
    await begun.wait()
    error, trailing = await refusal(generate(router, bearer("a"), text="x" * 3600))
    assert error.reason == "RATE_LIMIT_EXCEEDED"
    assert int(trailing["x-ratelimit-remaining-tokens"]) in range(100, 900)
    go_on.set()
    await first
    await generate(router, bearer("a"), text="x" * 3600)


async def test_a_cancelled_stream_has_used_what_came(keyed: StartKeyed) -> None:
    async def endless(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        for _ in range(600):
            yield delta("x")
        await asyncio.Event().wait()

    router = await keyed(worker={"script": endless}, a={"tokens_per_minute": 1000})
    call = router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), metadata=bearer("a"))
    came = 0
    while came < 600:  # deltas may be merged
        came += len((await call.read()).delta.token_ids)
    call.cancel()
    while True:  # the router learns of the cancellation a moment later
        second = router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), metadata=bearer("a"))
        left = int(dict(await second.initial_metadata())["x-ratelimit-remaining-tokens"])
        second.cancel()
        if left < 1000:
            break
    assert left < 1000 - 600 + 200  # some come back meanwhile
