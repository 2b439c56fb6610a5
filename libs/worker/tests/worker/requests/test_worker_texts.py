"""A worker embeds and scores texts: the right numbers come back, and its queue is bounded."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import to_numpy
from infermesh_worker.testing.processes import connected, simulated_worker_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = 3
"""Requests that each model of the worker takes: one runs, and the others wait."""
Request = pb.EmbedRequest | pb.ScoreRequest


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub() -> AsyncIterator[InferenceServiceStub]:
    async with (
        simulated_worker_process(
            model="embedder",
            sim_models="reranker:1MiB",
            sim_embedders="embedder",
            sim_rerankers="reranker",
            sim_batch_s=0.3,
            max_sequences=1,
            max_waiting=ROOM - 1,
        ) as process,
        connected(process) as stubs,
    ):
        await stubs.load("reranker")
        yield stubs.inference


def embed(texts: int) -> Request:
    return pb.EmbedRequest(texts=["a"] * texts)


def score(texts: int) -> Request:
    return pb.ScoreRequest(queries=["a"], texts=["b"] * texts)


async def end_of(stub: InferenceServiceStub, request: Request) -> str:
    """The reason of the refusal, or "" if there was none."""
    try:
        await (stub.Embed if isinstance(request, pb.EmbedRequest) else stub.Score)(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    return ""


async def test_numbers_come_back_in_order(stub: InferenceServiceStub) -> None:
    vectors = await stub.Embed(pb.EmbedRequest(texts=["a", "abc", "b"], normalize=False))
    assert to_numpy(vectors.embeddings, field="").tolist() == [[1, 97], [3, 97 + 98 + 99], [1, 98]]
    scores = await stub.Score(pb.ScoreRequest(queries=["a"], texts=["b", "c"]))
    assert to_numpy(scores.scores, field="").tolist() == [97 + 98, 97 + 99]


@pytest.mark.parametrize("texts", [1, 2000])
@pytest.mark.parametrize("ask", [embed, score])
async def test_a_burst_beyond_the_bound_is_refused(
    stub: InferenceServiceStub, ask: Callable[[int], Request], texts: int
) -> None:
    ends = Counter(await asyncio.gather(*(end_of(stub, ask(texts)) for _ in range(3 * ROOM))))
    assert ends == {"": ROOM, "QUEUE_FULL": 2 * ROOM}


async def test_a_request_of_more_shares_than_have_room_is_answered(stub: InferenceServiceStub) -> None:
    response = await stub.Embed(pb.EmbedRequest(texts=["a" * 6000] * 2, normalize=False))
    assert np.array_equal(to_numpy(response.embeddings, field=""), [[6000, 6000 * 97]] * 2)
