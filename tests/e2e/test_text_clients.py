"""The unmodified openai and ollama packages embed through Envoy, and plain HTTP reranks."""

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import ollama
import openai
import pytest

from tests.e2e.mesh import CPU, Mesh, NewMesh
from tests.text_models.folders import HIDDEN, import_texts, tiny_embedder, tiny_reranker

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def texts(new_mesh: NewMesh, tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    home = tmp_path_factory.mktemp("home")
    import_texts(tiny_embedder(home / "e"), home / "models", "embedder")
    import_texts(tiny_reranker(home / "r"), home / "models", "reranker")
    made = new_mesh([(CPU, {"models": home / "models", "model": "embedder"})])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture(scope="module")
def client(texts: Mesh) -> Iterator[openai.OpenAI]:
    with texts.openai() as opened:
        yield opened


@pytest.fixture(scope="module")
def rest(texts: Mesh) -> Iterator[httpx.Client]:
    with texts.http() as opened:
        yield opened


def test_openai_embeds(client: openai.OpenAI) -> None:
    default = client.embeddings.create(model="embedder", input=["the cat", "a dog ran"])  # it asks for base64
    plain = client.embeddings.create(model="embedder", input=["the cat", "a dog ran"], encoding_format="float")
    assert [each.index for each in default.data] == [0, 1]
    assert np.allclose([each.embedding for each in default.data], [each.embedding for each in plain.data])
    assert len(default.data[0].embedding) == HIDDEN
    assert default.usage.prompt_tokens == default.usage.total_tokens == 9
    cut = client.embeddings.create(model="embedder", input=[[2, 5, 6, 3]], dimensions=4)
    assert np.isclose(np.linalg.norm(cut.data[0].embedding), 1)


def test_openai_is_told_what_is_wrong(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="embedder", input=["a", "cat " * 99])
    assert (caught.value.param, caught.value.code) == ("input[1]", "context_length_exceeded")
    assert "101 tokens, and the model reads at most 32" in caught.value.message
    with pytest.raises(openai.BadRequestError, match="scores texts against a query"):
        client.embeddings.create(model="reranker", input="a")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nobody", input="a")


def test_azures_path_names_the_model(rest: httpx.Client) -> None:
    answer = rest.post("/openai/deployments/embedder/embeddings?api-version=1", json={"input": "the cat"})
    assert answer.json()["model"] == "embedder"


def test_ollama_embeds(texts: Mesh, client: openai.OpenAI) -> None:
    wanted = client.embeddings.create(model="embedder", input=["the cat", "a dog ran"])
    with ollama.Client(host=texts.envoy.http) as host:
        answer = host.embed(model="embedder", input=["the cat", "a dog ran"])
        assert np.allclose(answer.embeddings, [each.embedding for each in wanted.data], atol=1e-6)
        assert np.allclose(
            host.embeddings(model="embedder", prompt="the cat").embedding, answer.embeddings[0], atol=1e-6
        )
        with pytest.raises(ollama.ResponseError, match="input"):
            host.embed(model="embedder", input="cat " * 99, truncate=False)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_ordered(rest: httpx.Client, path: str) -> None:
    body = {"model": "reranker", "query": "the cat", "documents": ["a dog ran", "the cat sat", "sea"], "top_n": 2}
    results = rest.post(path, json=body).json()["results"]
    scores = rest.post("/v1/score", json={"model": "reranker", "text_1": "the cat", "text_2": body["documents"]}).json()
    best = sorted(((each["score"], each["index"]) for each in scores["data"]), reverse=True)[:2]
    assert [(each["relevance_score"], each["index"]) for each in results] == best


def test_an_embedding_is_little_endian_float32(rest: httpx.Client) -> None:
    body = {"model": "embedder", "input": "the cat"}
    plain = rest.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    coded = rest.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(coded), "<f4"), plain)


def test_the_description_has_the_paths(rest: httpx.Client) -> None:
    paths = rest.get("/openapi.json").json()["paths"]
    for path in ("/v1/embeddings", "/v1/rerank", "/v2/rerank", "/v1/score"):
        assert "requestBody" in paths[path]["post"]
