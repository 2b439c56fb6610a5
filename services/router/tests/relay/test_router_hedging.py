"""A slow first token is asked of a second endpoint too, over scripted workers on real ports."""

import asyncio

from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_router.testing.streams import generate, hold, refuse, text
from infermesh_runtime.errors import Unavailable


async def test_a_slow_first_token_is_hedged_and_the_loser_cancelled(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    slow, quick = await start_worker(script=hold()), await start_worker(script=hold(0))
    router = await start_router(slow, quick, hedge_after_s=0.05)
    for _ in range(4):
        events = await generate(router)
        assert text(events) == "Hello world"
        assert events[0].started.endpoint == quick.address
    assert slow.requests
    async with asyncio.timeout(10):
        await slow.interrupted.wait()
    await router.endpoints_when(lambda listed: not any(endpoint.in_flight for endpoint in listed))


async def test_without_the_setting_nothing_is_hedged(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(script=hold(0.2)) for _ in range(2)]
    router = await start_router(*workers)
    await generate(router)
    assert sum(len(worker.requests) for worker in workers) == 1


async def test_a_hedge_needs_budget_and_somewhere_to_go(start_worker: StartWorker, start_router: StartRouter) -> None:
    alone = await start_worker(script=hold(0.2))
    assert text(await generate(await start_router(alone, hedge_after_s=0.01))) == "Hello world"
    assert len(alone.requests) == 1


async def test_when_both_hedges_fail_the_request_is_tried_again(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    bad = [await start_worker(script=refuse(Unavailable("no"))) for _ in range(2)]
    router = await start_router(*bad, await start_worker(), hedge_after_s=0.01)
    assert text(await generate(router)) == "Hello world"
