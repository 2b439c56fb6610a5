"""A request that engines die of is sent to two endpoints at most, and then refused for a while."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.poison import ENGINE_CRASHED, POISONED, Poison, Suspicion, digest
from infermesh_router.requests.call import Call, from_generate
from infermesh_router.testing.router import Script, StartRouter, StartWorker, delta, finished, started
from infermesh_router.testing.streams import ask, generate, text
from infermesh_runtime.errors import FailedPrecondition, Unavailable
from infermesh_runtime.rpc.context import RpcContext

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


def new_poison(now_s: list[float]) -> Poison:
    return Poison(refuse_s=10, metrics=RequestMetrics(CollectorRegistry()), clock=lambda: now_s[0])


def call(words: str = "poison", **fields: Any) -> Call:
    return from_generate(pb.GenerateRequest(model="m", text=words, **fields))


def test_refusal_ends_with_time() -> None:
    now_s = [0.0]
    poison = new_poison(now_s)
    poison.engine_died(call())
    poison.check(call())
    with pytest.raises(FailedPrecondition):
        poison.engine_died(call())
    now_s[0] = 9.9
    with pytest.raises(FailedPrecondition, match="died while this request ran"):
        poison.check(call())
    poison.check(call("innocent"))
    now_s[0] = 10.1
    poison.check(call())


def test_neighbour_that_goes_on_elsewhere_is_absolved() -> None:
    poison = new_poison([0.0])
    for _ in range(3):
        suspicion = Suspicion(poison, call("innocent"))
        suspicion.note(CRASH, tokens=5)
        suspicion.note(Unavailable("a cut", reason="STREAM_CUT"), tokens=5)
        suspicion.note(CRASH, tokens=6)
        suspicion.finished(tokens=8)
    poison.check(call("innocent"))


def test_digest_is_of_what_is_asked_for() -> None:
    same = {digest(call()), digest(call(client_id="a")), digest(call(session_id="b", device="cpu"))}
    assert len(same) == 1
    assert digest(call("other")) not in same
