"""Texts through a router: an embedder and a reranker on a real worker-cpu, over gRPC and REST."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.ollama.v1.ollama_pb2_grpc import OllamaServiceStub
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.errors import ContextLengthExceeded, InfermeshError, InvalidArgument
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import Array, to_numpy
from infermesh_worker.executors.text_batches import pad
from infermesh_worker.testing.processes import WorkerProcess
from infermesh_worker_cpu.encoders.encoder import OpenVinoEncoder
from tests.integration.text_reference import ids_of, loaded, vector
from tests.text_models.folders import HIDDEN, LONGEST

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

TEXTS = ["the cat sat on the mat", "a dog ran", "the sea", "where is the house"]


@pytest.fixture(scope="module")
def root(text_models: Path) -> Path:
    return text_models


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(root: Path) -> AsyncIterator[RunningRouter]:
    worker = await WorkerProcess.start(
        "infermesh_worker_cpu", home=root.parent, models=root, model="embedder", listen="127.0.0.1:0", numerics="exact"
    )
    try:
        async with running_router(await worker.ready()) as running:
            yield running
    finally:
        await worker.stop()


@pytest.fixture(scope="module")
def direct(root: Path) -> OpenVinoEncoder:
    return loaded(root, "embedder", "embed")


@pytest.fixture(scope="module")
def scorer(root: Path) -> OpenVinoEncoder:
    return loaded(root, "reranker", "rerank")


async def embed(router: RunningRouter, **fields: Any) -> pb.EmbedResponse:
    request = pb.EmbedRequest(**{"model": "embedder"} | fields)
    response: pb.EmbedResponse = await answered(router.inference.Embed(request, timeout=60))
    return response


async def answered(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def post(stub: Any, method: str, **body: Any) -> Any:
    return json.loads((await answered(getattr(stub, method)(HttpBody(data=json.dumps(body).encode())))).data)


def rows(response: pb.EmbedResponse) -> Array:
    return to_numpy(response.embeddings, field="embeddings")


async def test_vectors_are_those_of_the_model_alone(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    response = await embed(router, texts=TEXTS)
    wanted = np.stack([vector(direct, text) for text in TEXTS])
    assert np.allclose(rows(response), wanted, atol=1e-5)
    assert response.usage.prompt_tokens == sum(len(ids_of(text)[0]) for text in TEXTS)


async def test_what_a_request_asks_of_its_vectors_is_done(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    whole = vector(direct, TEXTS[0])
    cut = rows(await embed(router, texts=TEXTS[:1], dimensions=5))[0]
    assert np.allclose(cut, whole[:5] / np.linalg.norm(whole[:5]), atol=1e-5)
    raw = rows(await embed(router, texts=TEXTS[:1], normalize=False))[0]
    assert not np.isclose(np.linalg.norm(raw), 1.0)
    assert np.allclose(raw / np.linalg.norm(raw), whole, atol=1e-5)
    last = rows(await embed(router, texts=TEXTS[:1], pooling=pb.POOLING_LAST))[0]
    assert np.allclose(last, vector(direct, TEXTS[0], "last"), atol=1e-5)


async def test_the_models_prompts_are_put_before_texts(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    query, passage = (vector(direct, f"{name} : {TEXTS[2]}") for name in ("query", "passage"))
    for fields, wanted in (
        ({"prompt_name": "query"}, query),
        ({"kind": pb.TEXT_KIND_QUERY}, query),
        ({"kind": pb.TEXT_KIND_DOCUMENT}, passage),
        ({}, vector(direct, TEXTS[2])),
    ):
        assert np.allclose(rows(await embed(router, texts=[TEXTS[2]], **fields))[0], wanted, atol=1e-5), fields
    with pytest.raises(InvalidArgument, match="no prompt 'code'; the model has query, passage"):
        await embed(router, texts=["a"], prompt_name="code")


async def test_token_ids_are_texts(router: RunningRouter) -> None:
    texts = rows(await embed(router, texts=TEXTS))
    lists = [pb.TokenIds(ids=ids_of(text)[0].tolist()) for text in TEXTS]
    assert np.allclose(rows(await embed(router, token_ids=lists)), texts, atol=1e-6)


async def test_long_texts_are_refused_or_cut(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    words = [*["cat"] * 20, *["dog"] * 30]
    long = " ".join(words)
    with pytest.raises(ContextLengthExceeded, match=r"texts\[1\]: it has 52 tokens, and the model reads at most 32"):
        await embed(router, texts=["a", long])
    kept = LONGEST - 2
    for truncation, wanted in (
        (pb.TRUNCATION_END, " ".join(words[:kept])),
        (pb.TRUNCATION_START, " ".join(words[-kept:])),
    ):
        got = rows(await embed(router, texts=[long], truncation=truncation))[0]
        assert np.allclose(got, vector(direct, wanted), atol=1e-5)
    ids = ids_of(long)[0].tolist()
    cut = rows(await embed(router, token_ids=[pb.TokenIds(ids=ids)], truncation=pb.TRUNCATION_END))
    assert np.allclose(cut, rows(await embed(router, token_ids=[pb.TokenIds(ids=ids[:LONGEST])])), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "texts: at least one"),
        ({"texts": ["a", ""]}, r"texts\[1\]: must not be empty"),
        ({"texts": ["a"], "dimensions": HIDDEN + 1}, f"dimensions: must be from 1 to {HIDDEN}"),
        ({"texts": ["a"], "dimensions": 0}, "dimensions: must be from 1"),
        ({"texts": ["a"], "pooling": 77}, "pooling: there is no value 77"),
        ({"texts": ["a"], "priority": 101}, "priority"),
        ({"texts": ["a"], "token_ids": [pb.TokenIds(ids=[1])]}, "token_ids: must be empty"),
        ({"token_ids": [pb.TokenIds(ids=[1]), pb.TokenIds()]}, r"token_ids\[1\]: must have at least one"),
        ({"token_ids": [pb.TokenIds(ids=[1, 9999])]}, r"token_ids\[0\]: token 1 is 9999, but ids must be below"),
        ({"texts": ["a"], "model": "reranker"}, "scores texts against a query; this call needs"),
    ],
)
async def test_bad_requests_are_refused_by_name(router: RunningRouter, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        await embed(router, **fields)


async def test_thousands_of_texts_let_others_in_between(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    many = asyncio.create_task(embed(router, texts=TEXTS * 700))
    one = await embed(router, texts=TEXTS[:1])
    assert not many.done()
    assert np.allclose(rows(one)[0], vector(direct, TEXTS[0]), atol=1e-5)
    assert np.allclose(rows(await many)[-4:], np.stack([vector(direct, text) for text in TEXTS]), atol=1e-5)


async def test_scores_are_those_of_the_model_alone(router: RunningRouter, scorer: OpenVinoEncoder) -> None:
    raw = np.array([scorer.score(pad([ids_of("where is the cat", text)], 0))[0] for text in TEXTS])
    request = pb.ScoreRequest(model="reranker", queries=["where is the cat"], texts=TEXTS)
    response = await answered(router.inference.Score(request, timeout=60))
    assert np.allclose(to_numpy(response.scores, field="scores"), 1 / (1 + np.exp(-raw)), atol=1e-5)
    request.raw = True
    assert np.allclose(
        to_numpy((await answered(router.inference.Score(request))).scores, field="scores"), raw, atol=1e-5
    )
    request.queries.append("who")
    with pytest.raises(InvalidArgument, match="queries: must be one, or one for each of the 4 texts, not 2"):
        await answered(router.inference.Score(request))


async def test_a_long_pair_is_refused_or_cut_in_its_text(router: RunningRouter, scorer: OpenVinoEncoder) -> None:
    words = ["cat"] * 20 + ["dog"] * 30
    request = pb.ScoreRequest(model="reranker", queries=["who ran"], texts=[" ".join(words)], raw=True)
    with pytest.raises(ContextLengthExceeded, match=r"texts\[0\]: the query and this text have 55 tokens"):
        await answered(router.inference.Score(request))
    room = LONGEST - 5
    for truncation, kept in ((pb.TRUNCATION_END, words[:room]), (pb.TRUNCATION_START, words[-room:])):
        request.truncation = truncation
        got = to_numpy((await answered(router.inference.Score(request))).scores, field="scores")
        assert np.allclose(got, scorer.score(pad([ids_of("who ran", " ".join(kept))], 0)), atol=1e-5)
    request.queries[0] = " ".join(words)
    with pytest.raises(ContextLengthExceeded, match="queries: the query alone has 50 tokens"):
        await answered(router.inference.Score(request))


async def test_openais_embeddings(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    wanted = np.stack([vector(direct, text) for text in TEXTS])
    body = await post(router.openai, "CreateEmbedding", model="embedder", input=TEXTS, user="u")
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2, 3]
    assert np.allclose([entry["embedding"] for entry in body["data"]], wanted, atol=1e-5)
    tokens = sum(len(ids_of(text)[0]) for text in TEXTS)
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (body["object"], body["model"]) == ("list", "embedder")
    for given in (TEXTS[0], ids_of(TEXTS[0])[0].tolist(), [ids_of(TEXTS[0])[0].tolist()]):
        coded = await post(
            router.openai, "CreateEmbedding", model="embedder", input=given, encoding_format="base64", dimensions=4
        )
        got = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
        assert np.allclose(got, wanted[0, :4] / np.linalg.norm(wanted[0, :4]), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": "a", "dimensions": HIDDEN + 1}, "dimensions"),
        ({"input": "cat " * 50}, "input"),
        ({"input": ["a", "cat " * 50]}, "input[1]"),
        ({"input": [[2, 9999]]}, "input[0]"),
        ({"input": [2, 9999]}, "input"),
        ({"input": "a", "input_type": "poem"}, "input_type"),
    ],
)
async def test_openais_fields_are_refused_by_name(router: RunningRouter, body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await post(router.openai, "CreateEmbedding", model="embedder", **body)
    assert field in caught.value.fields
    assert field in caught.value.message


async def test_documents_are_ordered(router: RunningRouter, scorer: OpenVinoEncoder) -> None:
    query = "where is the cat"
    raw = np.array([scorer.score(pad([ids_of(query, text)], 0))[0] for text in TEXTS])
    scores, best = 1 / (1 + np.exp(-raw)), np.argsort(-raw)
    documents = [{"text": text} if index % 2 else text for index, text in enumerate(TEXTS)]
    body = await post(
        router.openai, "Rerank", model="reranker", query=query, documents=documents, top_n=3, return_documents=True
    )
    assert [result["index"] for result in body["results"]] == best[:3].tolist()
    assert np.allclose([result["relevance_score"] for result in body["results"]], scores[best[:3]], atol=1e-5)
    assert body["results"][0]["document"] == {"text": TEXTS[best[0]]}
    plain = await post(router.openai, "Rerank", model="reranker", query=query, documents=["cat " * 50, "a"], top_n=9)
    assert len(plain["results"]) == 2
    assert "document" not in plain["results"][0]
    pairs = await post(router.openai, "Score", model="reranker", text_1=query, text_2=TEXTS)
    assert np.allclose([entry["score"] for entry in pairs["data"]], scores, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("Rerank", {"query": "a", "documents": []}, "documents"),
        ("Rerank", {"query": "a", "documents": ["a", {"title": "b"}]}, "documents[1].text"),
        ("Rerank", {"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
        ("Rerank", {"query": "cat " * 50, "documents": ["a"]}, "query"),
        ("Rerank", {"query": "a", "documents": ["a", "cat " * 50], "truncate": "NONE"}, "documents[1]"),
        ("Score", {"text_1": ["a", "b"], "text_2": ["a"]}, "text_1"),
        ("Score", {"text_1": "a", "text_2": ["a", "cat " * 50]}, "text_2[1]"),
    ],
)
async def test_fields_of_scores_are_refused_by_name(
    router: RunningRouter, method: str, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(InfermeshError) as caught:
        await post(router.openai, method, model="reranker", **body)
    assert field in caught.value.fields
    assert field in caught.value.message


async def test_fields_without_effect_are_named(router: RunningRouter) -> None:
    body = {"model": "reranker", "query": "a", "documents": ["a"], "max_tokens_per_doc": 9, "colour": "red"}
    call = router.openai.Rerank(HttpBody(data=json.dumps(body).encode()))
    await call
    assert dict(await call.initial_metadata())["x-infermesh-ignored-fields"] == "colour,max_tokens_per_doc"


async def test_ollamas_embeddings(router: RunningRouter, direct: OpenVinoEncoder) -> None:
    stub = OllamaServiceStub(router.channel)
    wanted = np.stack([vector(direct, text) for text in TEXTS])
    body = await post(stub, "Embed", model="embedder:latest", input=TEXTS, keep_alive="5m")
    assert np.allclose(body["embeddings"], wanted, atol=1e-5)
    assert body["model"] == "embedder:latest"
    assert body["prompt_eval_count"] == sum(len(ids_of(text)[0]) for text in TEXTS)
    single = await post(stub, "Embed", model="embedder", input="cat " * 50)
    assert np.allclose(single["embeddings"][0], vector(direct, "cat " * (LONGEST - 2)), atol=1e-5)
    assert (await post(stub, "Embed", model="embedder", input=[]))["embeddings"] == []
    old = await post(stub, "Embed", model="embedder", prompt=TEXTS[0])
    assert np.allclose(old["embedding"], wanted[0], atol=1e-5)
    with pytest.raises(ContextLengthExceeded, match="input: it has 52 tokens"):
        await post(stub, "Embed", model="embedder", input="cat " * 50, truncate=False)
