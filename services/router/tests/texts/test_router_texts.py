"""What bodies about texts become on their way to a worker, small and large ones, and what is counted of them."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.mesh.v1 import mesh_pb2
from infermesh.ollama.v1.ollama_pb2_grpc import OllamaServiceStub
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import ConvertAsked
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.kinds.texts import read_embed, read_score
from infermesh_router.requests.unpacking import ENCODING_KEY
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, StartRouter
from infermesh_router.texts.convert import convert_embeddings, convert_rerank, convert_score
from infermesh_runtime.errors import InfermeshError, Internal, InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import from_numpy


class TextWorker(ScriptedWorker):
    """Its vectors are the number of a text; its scores are lengths of texts. It keeps the last request."""

    asked: pb.EmbedRequest | pb.ScoreRequest
    dimensions: tuple[int, ...] = (3,)

    async def Embed(self, request: pb.EmbedRequest, context: RpcContext) -> pb.EmbedResponse:
        self.asked = request
        count = len(request.texts) or len(request.token_ids)
        rows = [np.full(self.dimensions, index, np.float32) for index in range(count)]
        usage = pb.Usage(prompt_tokens=7 * count)
        return pb.EmbedResponse(model=request.model, embeddings=from_numpy(np.stack(rows)), usage=usage)

    async def Score(self, request: pb.ScoreRequest, context: RpcContext) -> pb.ScoreResponse:
        self.asked = request
        scores = np.array([len(text) for text in request.texts], np.float32)
        return pb.ScoreResponse(model=request.model, scores=from_numpy(scores), usage=pb.Usage(prompt_tokens=9))


@pytest.fixture
async def worker() -> AsyncIterator[TextWorker]:
    made = TextWorker()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def router(worker: TextWorker, start_router: StartRouter) -> RunningRouter:
    return await start_router(worker)


async def ask(stub: Any, method: str, body: dict[str, Any] | bytes, **options: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        return json.loads((await getattr(stub, method)(HttpBody(data=data), **options)).data)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def test_receipts_name_the_fields_without_an_effect(router: RunningRouter) -> None:
    for method, body in (("CreateEmbedding", {"input": "a"}), ("Rerank", {"query": "q", "documents": ["d"]})):
        await ask(router.openai, method, {"model": "m", "colour": "red", **body})
        (receipt,) = (await router.mesh.ListReceipts(mesh_pb2.ListReceiptsRequest(limit=1))).receipts
        assert (receipt.status, receipt.ignored_fields) == ("OK", ["colour"])


async def test_every_option_reaches_the_worker(router: RunningRouter, worker: TextWorker) -> None:
    body = {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 2,
        "input_type": "search_query",
        "prompt_name": "q",
        "normalize": False,
        "truncate": "START",
        "priority": 5,
    }
    await ask(router.openai, "CreateEmbedding", body)
    assert worker.asked == pb.EmbedRequest(
        model="m",
        texts=["a", "b"],
        dimensions=2,
        kind=pb.TEXT_KIND_QUERY,
        prompt_name="q",
        normalize=False,
        truncation=pb.TRUNCATION_START,
        priority=-5,
    )
    await ask(router.openai, "Rerank", {"model": "m", "query": "q", "documents": ["d"], "priority": -3})
    assert worker.asked == pb.ScoreRequest(
        model="m", queries=["q"], texts=["d"], truncation=pb.TRUNCATION_END, priority=3
    )
    await ask(OllamaServiceStub(router.channel), "Embed", {"model": "m:latest", "input": "a", "dimensions": 2})
    assert worker.asked == pb.EmbedRequest(
        model="m", texts=["a"], dimensions=2, normalize=True, truncation=pb.TRUNCATION_END
    )


@pytest.mark.parametrize(
    ("convert", "body"),
    [
        (convert_embeddings, {"input": "a"}),
        (convert_rerank, {"query": "q", "documents": ["d"]}),
        (convert_score, {"text_1": "a", "text_2": "b"}),
    ],
)
def test_a_user_has_a_turn_of_its_own(convert: ConvertAsked, body: dict[str, Any]) -> None:
    rules = BodyRules(ignore_unknown=False, max_bytes=1000, bounds=Bounds())
    for user, client in (({"user": "u"}, "u"), ({}, "")):
        message = HttpBody(data=json.dumps({"model": "m", **body, **user}).encode()).SerializeToString()
        assert convert(message, rules, "").call.wanted.client == client


@pytest.mark.parametrize("count", [3, 3000])
async def test_token_lists_small_and_large(router: RunningRouter, worker: TextWorker, count: int) -> None:
    lists = [[index, 1, 2] for index in range(count)]
    answer = await ask(router.openai, "CreateEmbedding", {"model": "m", "input": lists})
    assert isinstance(worker.asked, pb.EmbedRequest)
    assert [list(text.ids) for text in worker.asked.token_ids] == lists
    assert [entry["embedding"] for entry in answer["data"]] == [[float(index)] * 3 for index in range(count)]
    assert answer["usage"] == {"prompt_tokens": 7 * count, "total_tokens": 7 * count}


async def test_documents_of_a_large_body_come_back(router: RunningRouter) -> None:
    documents = ["x" * length for length in range(1, 700)]
    body = {"model": "m", "query": "q", "documents": documents, "top_n": 2, "return_documents": True}
    results = (await ask(router.openai, "Rerank", body))["results"]
    assert [(result["index"], result["document"]["text"]) for result in results] == [
        (698, "x" * 699),
        (697, "x" * 698),
    ]


async def test_a_compressed_body(router: RunningRouter) -> None:
    packed = gzip.compress(json.dumps({"model": "m", "text_1": "q", "text_2": ["a", "bcd"]}).encode())
    answer = await ask(router.openai, "Score", packed, metadata=((ENCODING_KEY, "gzip"),))
    assert [entry["score"] for entry in answer["data"]] == [1, 3]


async def test_a_score_over_grpc_is_relayed(router: RunningRouter) -> None:
    response = await router.inference.Score(pb.ScoreRequest(model="m", queries=["q"], texts=["four"]))
    assert response.usage.prompt_tokens == 9


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("CreateEmbedding", {"input": ""}, "input"),
        ("CreateEmbedding", {"input": [1, -1]}, "input[1]"),
        ("CreateEmbedding", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("CreateEmbedding", {"input": "a", "truncate": "MIDDLE"}, "truncate"),
        ("CreateEmbedding", {"input": "a", "priority": 101}, "priority"),
        ("Rerank", {"documents": ["a"]}, "query"),
        ("Score", {"text_1": "a"}, "text_2"),
    ],
)
async def test_bad_fields_are_named(router: RunningRouter, method: str, body: dict[str, Any], field: str) -> None:
    with pytest.raises(InfermeshError) as caught:
        await ask(router.openai, method, {"model": "m", **body})
    assert [*caught.value.fields] == [field]


async def test_an_endpoint_that_answers_without_vectors_is_told_of(router: RunningRouter, worker: TextWorker) -> None:
    worker.dimensions = ()
    with pytest.raises(Internal, match=r"answered with embeddings of the shape \[1\]"):
        await ask(router.openai, "CreateEmbedding", {"model": "m", "input": "a"})


def test_the_length_of_texts_and_token_ids_is_estimated() -> None:
    embed = pb.EmbedRequest(texts=["x" * 40], priority=3)
    assert read_embed(embed.SerializeToString()).wanted.prompt_tokens == 10
    assert read_embed(embed.SerializeToString()).wanted.priority == 3
    ids = pb.EmbedRequest(token_ids=[pb.TokenIds(ids=[1, 2]), pb.TokenIds(ids=[3])])
    assert read_embed(ids.SerializeToString()).wanted.prompt_tokens == 3
    score = pb.ScoreRequest(queries=["x" * 20], texts=["y" * 40, "z" * 40])
    assert read_score(score.SerializeToString()).wanted.prompt_tokens == 30
    for read, request in ((read_embed, pb.EmbedRequest(priority=101)), (read_score, pb.ScoreRequest(priority=-101))):
        with pytest.raises(InvalidArgument, match="priority"):
            read(request.SerializeToString())
