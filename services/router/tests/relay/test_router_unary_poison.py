"""A unary request that engines die of is sent to two endpoints at most, and then refused for a while."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.relay.poison import ENGINE_CRASHED, POISONED
from infermesh_router.relay.request_digest import digest, digest_of
from infermesh_router.requests.kinds.tensors import read_infer
from infermesh_router.requests.kinds.texts import read_embed, read_score
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, StartRouter
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, Unavailable
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import from_numpy

Request = pb.InferRequest | pb.EmbedRequest | pb.ScoreRequest


def infer(text: str, **fields: Any) -> pb.InferRequest:
    return pb.InferRequest(model="infer", inputs=[from_numpy(np.array([text.encode()], object), name="x")], **fields)


def embed(text: str, **fields: Any) -> pb.EmbedRequest:
    return pb.EmbedRequest(model="embed", texts=[text], **fields)


def score(text: str, **fields: Any) -> pb.ScoreRequest:
    return pb.ScoreRequest(model="score", queries=["a"], texts=[text], **fields)


@dataclass
class FrailWorker(ScriptedWorker):
    """Has a model of each kind; its engine dies of requests that hold the word "poison" as long as it is frail."""

    models: tuple[str, ...] = ("infer", "embed", "score")
    kinds: dict[str, pb.ModelKind] = field(
        default_factory=lambda: {
            "infer": pb.MODEL_KIND_INFER,
            "embed": pb.MODEL_KIND_EMBED,
            "score": pb.MODEL_KIND_RERANK,
        }
    )
    frail: bool = True
    deaths: int = 0

    async def Infer(self, request: pb.InferRequest, context: RpcContext) -> pb.InferResponse:
        return pb.InferResponse(model=self._answer(request))

    async def Embed(self, request: pb.EmbedRequest, context: RpcContext) -> pb.EmbedResponse:
        return pb.EmbedResponse(model=self._answer(request))

    async def Score(self, request: pb.ScoreRequest, context: RpcContext) -> pb.ScoreResponse:
        return pb.ScoreResponse(model=self._answer(request))

    def _answer(self, request: Request) -> str:
        if self.frail and b"poison" in request.SerializeToString():
            self.deaths += 1
            raise Unavailable("This request was cut off.", reason=ENGINE_CRASHED)
        return request.model


@pytest.fixture
async def workers() -> AsyncIterator[list[FrailWorker]]:
    async with AsyncExitStack() as stack:
        started = [FrailWorker() for _ in range(4)]
        for worker in started:
            await worker.start()
            stack.push_async_callback(worker.stop)
        yield started


async def send(router: RunningRouter, request: Request) -> InfermeshError | None:
    """Why the request failed; None: it was answered."""
    method = {"infer": router.inference.Infer, "embed": router.inference.Embed, "score": router.inference.Score}
    try:
        await method[request.model](request, timeout=20)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


@pytest.mark.parametrize("ask", [infer, embed, score])
async def test_poison_reaches_two_endpoints_and_is_then_refused(
    workers: list[FrailWorker], start_router: StartRouter, ask: Callable[..., Request]
) -> None:
    router = await start_router(*workers, attempts=4)
    for priority in range(3):
        error = await send(router, ask("poison", priority=priority, device="cpu"))
        assert isinstance(error, FailedPrecondition)
        assert error.reason == POISONED
    assert sum(worker.deaths for worker in workers) == 2
    assert await send(router, ask("fine")) is None


@pytest.mark.parametrize("ask", [infer, embed, score])
async def test_what_another_endpoint_answers_is_absolved(
    workers: list[FrailWorker], start_router: StartRouter, ask: Callable[..., Request]
) -> None:
    router = await start_router(*workers, attempts=4)
    for unlucky in workers[:3]:  # each dies beside another request that is to blame
        for worker in workers:
            worker.frail = worker is unlucky
        for _ in range(50):
            assert await send(router, ask("poison")) is None
            if unlucky.deaths:
                break
        assert unlucky.deaths == 1


@pytest.mark.parametrize(("ask", "read"), [(infer, read_infer), (embed, read_embed), (score, read_score)])
def test_digest_is_of_what_is_asked_for(ask: Callable[..., Request], read: Callable[[bytes], Any]) -> None:
    def digest_for(text: str, **fields: Any) -> bytes:
        return digest(read(ask(text, **fields).SerializeToString()))

    assert len({digest_for("a"), digest_for("a", priority=3), digest_for("a", device="cpu")}) == 1
    assert digest_for("b") != digest_for("a")
    call = read(ask("a").SerializeToString())
    assert digest(call.on_device("cpu")) == digest(call)
    assert digest(call.for_model("other")) != digest(call)


async def test_tensors_of_megabytes_do_not_hold_up_the_event_loop() -> None:
    call = read_infer(infer("a" * (8 << 20)).SerializeToString())
    working = asyncio.ensure_future(digest_of(call))
    turns = 0
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert await working == digest(call)
