"""Unmodified clients send images: models that see get their bytes, others refuse them by the client's field."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.images import DATA_URL, ENCODED, PNG
from infermesh_router.testing.router import ScriptedWorker, say_hello
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from tests.conformance.scripted import behind_envoy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LARGE = PNG + bytes(1 << 20)
WEB = "https://example.org/a.png"


async def look(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Says hello; the model "unsaid" refuses images as workers do."""
    if request.model == "unsaid" and _images(request):
        field = "chat.messages[0].parts[1]"
        raise InvalidArgument(f"{field}: the model takes no images", fields={field: "the model takes no images"})
    async for event in say_hello(request, context):
        yield event


def _images(request: pb.GenerateRequest) -> list[bytes]:
    return [part.image.data for message in request.chat.messages for part in message.parts if part.HasField("image")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[ScriptedWorker, str]]:
    """A worker with a model that sees, one that does not, and one of which that is not known."""
    worker = ScriptedWorker(look, ("sees", "blind", "unsaid"), sees={"sees": True, "blind": False})
    async with behind_envoy(worker, tmp_path_factory.mktemp("envoy")) as url:
        yield worker, url


@pytest.fixture
def url(mesh: tuple[ScriptedWorker, str]) -> str:
    return mesh[1]


@pytest.fixture
def seen(mesh: tuple[ScriptedWorker, str]) -> list[pb.GenerateRequest]:
    """The requests that reach the worker."""
    mesh[0].requests.clear()
    return mesh[0].requests


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", timeout=20, max_retries=0) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def llama(url: str) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(url, timeout=20) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def claude(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="x", timeout=20, max_retries=0) as opened:
        yield opened


def chat_body(image: str, model: str) -> Any:
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": image, "detail": "high"}}]
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def response_body(image: str, model: str) -> Any:
    content = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": image, "detail": "auto"}]
    return {"model": model, "input": [{"role": "user", "content": content}], "store": False}


def message_body(source: dict[str, str], model: str) -> Any:
    content = [{"type": "text", "text": "what?"}, {"type": "image", "source": source}]
    return {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": content}]}


def encoded(data: bytes = PNG) -> dict[str, str]:
    return {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}


async def test_openai(client: openai.AsyncOpenAI, seen: list[pb.GenerateRequest]) -> None:
    answer = await client.chat.completions.create(**chat_body(DATA_URL, "sees"))
    assert answer.choices[0].message.content == "Hello world"
    response = await client.responses.create(**response_body(DATA_URL, "sees"))
    assert response.output_text == "Hello world"
    assert [_images(request) for request in seen] == [[PNG], [PNG]]
    assert seen[0].chat.messages[0].parts[1].image.detail == "high"


async def test_anthropic(claude: anthropic.AsyncAnthropic, seen: list[pb.GenerateRequest]) -> None:
    """The image is large enough to be read in another process."""
    message = await claude.messages.create(**message_body(encoded(LARGE), "sees"))
    assert message.content[0].type == "text"
    assert [_images(request) for request in seen] == [[LARGE]]


async def test_ollama(llama: ollama.AsyncClient, seen: list[pb.GenerateRequest]) -> None:
    await llama.chat("sees", messages=[{"role": "user", "content": "what?", "images": [PNG]}])
    await llama.generate("sees", prompt="what?", images=[PNG])
    assert [_images(request) for request in seen] == [[PNG], [PNG]]
    assert "vision" in ((await llama.show("sees")).capabilities or ())
    assert "vision" not in ((await llama.show("blind")).capabilities or ())


@pytest.mark.parametrize("model", ["blind", "unsaid"])
async def test_models_that_take_no_images(
    client: openai.AsyncOpenAI,
    claude: anthropic.AsyncAnthropic,
    llama: ollama.AsyncClient,
    seen: list[pb.GenerateRequest],
    model: str,
) -> None:
    with pytest.raises(openai.BadRequestError) as chat:
        await client.chat.completions.create(**chat_body(DATA_URL, model))
    assert chat.value.param == "messages[0].content[1].image_url"
    assert "takes no images" in chat.value.message
    with pytest.raises(openai.BadRequestError) as response:
        await client.responses.create(**response_body(DATA_URL, model))
    assert response.value.param == "input[0].content[1].image_url"
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content\[1\].source: the model.* no images"):
        await claude.messages.create(**message_body(encoded(), model))
    assert bool(seen) is (model == "unsaid")
    if model == "blind":
        with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content\[1\].source: the model"):
            await claude.messages.count_tokens(model=model, messages=message_body(encoded(), model)["messages"])
        with pytest.raises(ollama.ResponseError, match=r"messages\[0\].images\[0\]: the model 'blind' takes no images"):
            await llama.chat(model, messages=[{"role": "user", "images": [PNG]}])
        with pytest.raises(ollama.ResponseError, match=r"images\[0\]: the model 'blind' takes no images"):
            await llama.generate(model, prompt="x", images=[PNG])


async def test_urls_are_not_fetched_unless_that_is_allowed(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, seen: list[pb.GenerateRequest]
) -> None:
    with pytest.raises(openai.BadRequestError, match="INFERMESH_IMAGE_URLS") as refused:
        await client.chat.completions.create(**chat_body(WEB, "sees"))
    assert (refused.value.param, refused.value.code) == ("messages[0].content[1].image_url", "image_urls_off")
    with pytest.raises(anthropic.BadRequestError, match=r"content\[1\].source.* INFERMESH_IMAGE_URLS"):
        await claude.messages.create(**message_body({"type": "url", "url": WEB}, "sees"))
    assert not seen


async def test_nothing_is_fetched_for_a_model_that_takes_no_images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The address is one that would be refused, but the model is what the error is about."""
    worker = ScriptedWorker(look, ("blind",), sees={"blind": False})
    async with (
        behind_envoy(worker, tmp_path_factory.mktemp("blind"), image_urls=True) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        for path in ("/v1/chat/completions", "/tokenize"):
            error = (await http.post(path, json=chat_body("http://127.0.0.1/a.png", "blind"))).json()["error"]
            assert error["message"] == "messages[0].content[1].image_url: the model 'blind' takes no images."


async def test_a_stream_is_refused_as_an_answer_is(url: str) -> None:
    body = chat_body(f"data:image/svg+xml;base64,{ENCODED[:8]}", "sees") | {"stream": True}
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        answer = await http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].content[1].image_url")


async def test_addresses_of_this_machine_are_not_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Though the operator allows URLs: not even those at which the mesh itself listens."""
    worker = ScriptedWorker(look, ("sees",), sees={"sees": True})
    async with (
        behind_envoy(worker, tmp_path_factory.mktemp("urls"), image_urls=True) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        for image in ("http://127.0.0.1/", "http://[::ffff:7f00:1]/", "http://2130706433/", f"{url}/metrics"):
            answer = await http.post("/v1/chat/completions", json=chat_body(image, "sees"))
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, "messages[0].content[1].image_url")
            assert "not public" in error["message"] or "port 80 or 443" in error["message"]
    assert not worker.requests
