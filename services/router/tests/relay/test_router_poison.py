"""A request that engines die of or hang on is sent to two endpoints at most, and then refused for a while."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.faults import ENGINE_SILENT, STREAM_SILENT
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.poison import ENGINE_CRASHED, POISONED, Poison, Suspicion
from infermesh_router.relay.request_digest import digest
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.generate import from_generate
from infermesh_router.testing.router import Script, StartRouter, StartWorker, delta, finished, started
from infermesh_router.testing.streams import ask, generate, text
from infermesh_runtime.errors import FailedPrecondition, Unavailable
from infermesh_runtime.rpc.context import RpcContext

SILENCE = Unavailable("It was silent.", reason=STREAM_SILENT, metadata=ENGINE_SILENT)
CRASH = Unavailable("This request was cut off.", reason=ENGINE_CRASHED)


def crash(after: int = 0) -> Script:
    """An engine that dies of the text "poison", after that many tokens of the answer."""

    async def script(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        begun = sum(len(part.token_ids) for part in request.generated)
        if request.text == "poison":
            for _ in range(after - begun):
                yield delta("x")
            raise CRASH
        yield delta("fine")
        yield finished()

    return script


@pytest.mark.parametrize("after", [0, 3])
async def test_poison_reaches_two_endpoints_and_is_then_refused(
    start_worker: StartWorker, start_router: StartRouter, after: int
) -> None:
    workers = [await start_worker(script=crash(after)) for _ in range(4)]
    router = await start_router(*workers, attempts=4)
    for seed in range(3):
        with pytest.raises(FailedPrecondition) as caught:
            await generate(router, pb.GenerateRequest(model="m", text="poison", seed=seed, client_id=str(seed)))
        assert caught.value.reason == POISONED
    assert sum(len(worker.requests) for worker in workers) == 2
    assert text(await generate(router, ask())) == "fine"


async def test_stream_that_gets_further_each_time_is_not_refused(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def step(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("x")
        if sum(len(part.token_ids) for part in request.generated) < 3:
            raise CRASH
        yield finished()

    workers = [await start_worker(script=step) for _ in range(4)]
    router = await start_router(*workers)
    for _ in range(2):
        assert text(await generate(router)) == "xxxx"


@pytest.mark.parametrize("after", [0, 2])
async def test_request_that_hangs_engines_reaches_two_endpoints_and_is_then_refused(
    start_worker: StartWorker, start_router: StartRouter, after: int
) -> None:
    workers = [await start_worker(script=hang(after)) for _ in range(4)]
    limits = {"first_token_timeout_s": 0.1, "first_token_timeout_max_s": 0.1, "stall_timeout_s": 0.1}
    router = await start_router(*workers, attempts=4, **limits)
    for seed in range(3):
        with pytest.raises(FailedPrecondition, match="died or hung 2 times") as caught:
            await generate(router, pb.GenerateRequest(model="m", text="poison", seed=seed))
        assert caught.value.reason == POISONED
    assert sum(len(worker.requests) for worker in workers) == 2
    assert text(await generate(router, ask())) == "fine"


async def test_slow_engine_that_serves_others_is_no_hang(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(script=hang(0, others_s=0.02)) for _ in range(3)]
    router = await start_router(*workers, attempts=3, first_token_timeout_s=0.2, first_token_timeout_max_s=0.3)
    others = [asyncio.create_task(generate(router, ask())) for _ in range(6)]
    with pytest.raises(Unavailable) as caught:
        await generate(router, pb.GenerateRequest(model="m", text="poison"))
    assert caught.value.reason == "FIRST_TOKEN_TIMEOUT"
    assert sum(request.text == "poison" for worker in workers for request in worker.requests) == 3
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def hang(after: int, *, others_s: float = 0) -> Script:
    """An engine that hangs on the text "poison" after that many tokens; with `others_s`, others get tokens for ever."""

    async def script(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        if request.text == "poison":
            for _ in range(after - sum(len(part.token_ids) for part in request.generated)):
                yield delta("x")
            await asyncio.Event().wait()
        yield delta("fine")
        while others_s:
            await asyncio.sleep(others_s)
            yield delta("fine")
        yield finished()

    return script


async def front_is_well(_address: str) -> bool:
    return True


async def front_is_lost(_address: str) -> bool:
    return False


def new_poison(now_s: list[float], *, front_answers: Callable[[str], Awaitable[bool]] = front_is_well) -> Poison:
    metrics = RequestMetrics(CollectorRegistry())
    return Poison(refuse_s=10, metrics=metrics, clock=lambda: now_s[0], front_answers=front_answers)


def call(words: str = "poison", **fields: Any) -> Call:
    return from_generate(pb.GenerateRequest(model="m", text=words, **fields))


def test_refusal_ends_with_time() -> None:
    now_s = [0.0]
    poison = new_poison(now_s)
    poison.engine_died(digest(call()), "a:1")
    poison.check(digest(call()))
    with pytest.raises(FailedPrecondition):
        poison.engine_died(digest(call()), "b:2")
    now_s[0] = 9.9
    with pytest.raises(FailedPrecondition, match="while this request ran"):
        poison.check(digest(call()))
    poison.check(digest(call("innocent")))
    now_s[0] = 10.1
    poison.check(digest(call()))


def test_one_death_counts_once_however_many_such_requests_ran() -> None:
    now_s = [0.0]
    poison = new_poison(now_s)
    for _ in range(3):
        poison.engine_died(digest(call()), "a:1")
    now_s[0] = 1.0
    with pytest.raises(FailedPrecondition):
        poison.engine_died(digest(call()), "a:1")


async def test_neighbour_that_goes_on_elsewhere_is_absolved() -> None:
    poison = new_poison([0.0])
    for address in ("a:1", "b:2", "c:3"):
        suspicion = Suspicion(poison, call("innocent"))
        await suspicion.note(address, CRASH, tokens=5)
        await suspicion.note(address, Unavailable("a cut", reason="STREAM_CUT"), tokens=5)
        await suspicion.note(address, SILENCE, tokens=6)
        await suspicion.note("d:4", CRASH, tokens=7)
        suspicion.finished(tokens=8)
    poison.check(digest(call("innocent")))


@pytest.mark.parametrize(("front", "refused"), [(front_is_well, True), (front_is_lost, False)])
async def test_silence_counts_only_while_the_front_answers(
    front: Callable[[str], Awaitable[bool]], refused: bool
) -> None:
    suspicion = Suspicion(new_poison([0.0], front_answers=front), call())
    await suspicion.note("a:1", SILENCE, tokens=2)
    await suspicion.note("a:1", SILENCE, tokens=2)
    with pytest.raises(FailedPrecondition) if refused else nullcontext():
        await suspicion.note("b:2", SILENCE, tokens=2)


async def test_hang_and_crash_count_together() -> None:
    suspicion = Suspicion(new_poison([0.0]), call())
    await suspicion.note("a:1", SILENCE)
    with pytest.raises(FailedPrecondition):
        await suspicion.note("b:2", CRASH)


def test_digest_is_of_what_is_asked_for() -> None:
    same = {digest(call()), digest(call(client_id="a")), digest(call(session_id="b", device="cpu"))}
    assert len(same) == 1
    assert digest(call("other")) not in same
