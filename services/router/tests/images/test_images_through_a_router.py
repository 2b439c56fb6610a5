"""Images reach the endpoints that take them, and are refused before they wait where none does."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import grpc
import httpcore
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.mesh.v1 import mesh_pb2
from infermesh.openai.v1 import openai_pb2
from infermesh_router.api.aggregate import combine_available, list_available_aliases
from infermesh_router.images.fetching import FetchOptions, ImageFetcher
from infermesh_router.images.rules import ImageRules
from infermesh_router.ollama.listing.models import show_model
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import BodyConverter, Sent
from infermesh_router.openai.convert.tokens import convert_template
from infermesh_router.openai.props import show_props
from infermesh_router.policy.choice import choose
from infermesh_router.policy.placing import place
from infermesh_router.policy.refusals import ModelNotLoaded
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.testing.dialects.anthropic import ask as ask_anthropic
from infermesh_router.testing.dialects.ollama import chat as chat_ollama
from infermesh_router.testing.dialects.openai import chat, post
from infermesh_router.testing.images import DATA_URL, ENCODED, PNG
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_router.testing.snapshots import disk, endpoint
from infermesh_router.testing.streams import generate, hold
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted, Unavailable
from infermesh_runtime.rpc.limits.body_budget import BodyBudget
from infermesh_runtime.rpc.status import from_rpc_error

PART = {"type": "image_url", "image_url": {"url": DATA_URL}}
LOOK = [{"role": "user", "content": [{"type": "text", "text": "look"}, PART]}]
IMAGE = "chat.messages[0].parts[1]"
WANTED = Wanted(model="m", image=IMAGE)
BLIND = {"blind_models": frozenset({"m"})}


def seen(request: pb.GenerateRequest) -> list[bytes]:
    return [part.image.data for message in request.chat.messages for part in message.parts if part.HasField("image")]


async def test_an_image_goes_where_the_model_takes_it(start_worker: StartWorker, start_router: StartRouter) -> None:
    blind, sees = await start_worker(sees={"m": False}), await start_worker(sees={"m": True})
    router = await start_router(blind, sees)
    for _ in range(4):
        await chat(router, messages=LOOK)
    assert [seen(request) for request in sees.requests] == [[PNG]] * 4
    assert not blind.requests


async def test_a_worker_that_does_not_say_is_asked(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    source = {"type": "base64", "media_type": "image/png", "data": ENCODED}
    await ask_anthropic(router, messages=[{"role": "user", "content": [{"type": "image", "source": source}]}])
    await chat_ollama(router, messages=[{"role": "user", "content": "look", "images": [ENCODED]}])
    assert [seen(request) for request in worker.requests] == [[PNG], [PNG]]


async def test_an_image_for_a_blind_model_does_not_wait(start_worker: StartWorker, start_router: StartRouter) -> None:
    """Though the endpoint is full, and others wait."""
    worker = await start_worker(sees={"m": False}, script=hold(), load=pb.Load(max_running=1, max_waiting=0))
    router = await start_router(worker)
    waiting = [asyncio.create_task(chat(router)) for _ in range(3)]
    await router.endpoints_when(lambda listed: listed[0].in_flight > 0)
    try:
        async with asyncio.timeout(5):
            for method in ("CreateChatCompletion", "Tokenize", "ApplyTemplate"):
                body = HttpBody(data=json.dumps({"model": "m", "messages": LOOK}).encode())
                with pytest.raises(InvalidArgument) as refused:
                    await (post(router, method, body.data) if method.startswith("C") else unary(router, method, body))
                assert refused.value.message == "messages[0].content[1].image_url: the model 'm' takes no images."
                assert (list(refused.value.fields), refused.value.reason) == (
                    ["messages[0].content[1].image_url"],
                    "NO_IMAGES",
                )
            message = pb.ChatMessage(role="user", parts=[pb.ContentPart(image=pb.Image(data=PNG))])
            with pytest.raises(InvalidArgument, match=r"^chat.messages\[0\].parts\[0\]: the model 'm' takes no images"):
                await generate(router, pb.GenerateRequest(model="m", chat=pb.ChatPrompt(messages=[message])))
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_refused_image_is_counted_and_has_a_receipt(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(sees={"m": False}))
    message = pb.ChatMessage(role="user", parts=[pb.ContentPart(image=pb.Image(data=PNG))])
    prompt = pb.ChatPrompt(messages=[message])
    with pytest.raises(InvalidArgument, match="takes no images"):
        await generate(router, pb.GenerateRequest(model="m", chat=prompt))
    with pytest.raises(grpc.aio.AioRpcError, match="takes no images"):
        await router.inference.Tokenize(pb.TokenizeRequest(model="m", chat=prompt))
    receipts = (await router.mesh.ListReceipts(mesh_pb2.ListReceiptsRequest())).receipts
    assert sorted((each.call, each.model, each.status, each.error) for each in receipts) == [
        ("Generate", "m", "INVALID_ARGUMENT", "NO_IMAGES"),
        ("Tokenize", "m", "INVALID_ARGUMENT", "NO_IMAGES"),
    ]
    text = (await router.openai.GetMetrics(openai_pb2.GetMetricsRequest())).data.decode()
    assert 'infermesh:router_requests_total{code="INVALID_ARGUMENT",model_name="m"} 2.0' in text


async def unary(router: Any, method: str, body: HttpBody) -> None:
    """Calls a unary method. Raises the InfermeshError that its status stands for."""

    try:
        await getattr(router.openai, method)(body)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def test_the_policy_knows_who_sees() -> None:
    assert choose([endpoint("a", **BLIND), endpoint("b")], WANTED).address == "b"
    assert choose([endpoint("a", **BLIND)], Wanted(model="m")).address == "a"
    with pytest.raises(InvalidArgument, match="takes no images"):
        choose([endpoint("a", **BLIND)], WANTED)
    with pytest.raises(Unavailable):
        choose([endpoint("a", **BLIND), endpoint("b", connected=False)], WANTED)


def test_a_model_is_loaded_where_it_takes_images() -> None:
    with pytest.raises(ModelNotLoaded):
        choose([endpoint("a", **BLIND), disk("b")], WANTED)
    assert place([disk("a", **BLIND), disk("b")], WANTED).address == "b"
    for refuse in (choose, place):
        with pytest.raises(InvalidArgument, match="takes no images"):
            refuse([disk("a", **BLIND)], WANTED)


@pytest.mark.parametrize(
    ("told", "combined"),
    [([True, False], True), ([None, True], True), ([None, False], None), ([False, False], False), ([None], None)],
)
def test_a_router_reports_images_of_all_its_endpoints(told: Sequence[bool | None], combined: bool | None) -> None:
    models = [pb.AvailableModel(name="m", memory_bytes=index, takes_images=each) for index, each in enumerate(told)]
    (found,) = combine_available([pb.HealthReport(available=[model]) for model in models])
    assert (found.takes_images if found.HasField("takes_images") else None) is combined
    for index, model in enumerate(models):
        model.name = f"m{index}"
    (alias,) = list_available_aliases(models, {"alias": [model.name for model in models]})
    assert (alias.takes_images if alias.HasField("takes_images") else None) is combined


def test_clients_learn_which_models_take_images() -> None:
    model = pb.AvailableModel(name="m", takes_images=True, has_chat_template=True, kind=pb.MODEL_KIND_GENERATE)
    report = pb.HealthReport(state=pb.ENDPOINT_STATE_READY, available=[model])
    assert "vision" in show_model(report, "m", {})["capabilities"]
    assert show_props(report, "m", {})["modalities"] == {"vision": True, "audio": False}
    model.takes_images = False
    report = pb.HealthReport(state=pb.ENDPOINT_STATE_READY, available=[model])
    assert "vision" not in show_model(report, "m", {})["capabilities"]
    assert show_props(report, "m", {})["modalities"]["vision"] is False


class Fetching:
    """A converter whose images come from the web, where each is these bytes."""

    def __init__(self, pool: ParsingPool, data: bytes, max_bytes: int = 1 << 20) -> None:
        rules = ImageRules(urls=True)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
        self._answer = [head, data]
        fetcher = ImageFetcher(rules, FetchOptions(timeout_s=20), resolve=self._resolve, dial=self._dial)
        body = BodyRules(ignore_unknown=True, max_bytes=max_bytes, bounds=Bounds(), images=rules)
        self.converter = BodyConverter(pool, body, fetcher)

    async def _resolve(self, _host: str, _port: int) -> list[str]:
        return ["93.184.216.34"]

    async def _dial(self, _address: str, _port: int) -> httpcore.AsyncNetworkStream:
        return httpcore.AsyncMockStream(list(self._answer))


WEB = {"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}


def web_message(images: int) -> bytes:
    content = [{"type": "text", "text": "look"}, *[WEB] * images, PART]
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    return bytes(HttpBody(data=data).SerializeToString())


async def test_fetched_images_take_their_places() -> None:
    pool = ParsingPool(1)
    data = PNG + bytes(range(256)) * 100
    converter = Fetching(pool, data).converter
    converted = await converter.chat(web_message(2))
    (call,) = converted.job.calls
    request = pb.GenerateRequest.FromString(call.body)
    assert seen(request) == [data, data, PNG]
    assert request.chat.messages[0].parts[0].text == "look"
    assert request.HasField("seed")
    assert len(call.wanted.blocks) > 4
    assert call.wanted.image == IMAGE
    assert not converted.job.remote_images
    asked = await converter.asked(convert_template, web_message(1))
    chat_prompt = pb.TokenizeRequest.FromString(asked.call.body).chat
    assert [part.image.data for part in chat_prompt.messages[0].parts[1:]] == [data, PNG]
    await pool.close()


async def test_fetched_bytes_count_as_the_body_does() -> None:
    pool = ParsingPool(1)
    data = PNG + bytes(400_000)
    with pytest.raises(InvalidArgument, match="have more than 1048576 bytes together"):
        await Fetching(pool, data).converter.chat(web_message(3))
    budget = BodyBudget(total_bytes=3_000_000, client_bytes=1_000_000)
    with budget.expect(_Context()) as share:
        share.arrived(100_000)
        with pytest.raises(ResourceExhausted):
            await Fetching(pool, data).converter.chat(web_message(1), Sent(share=share))
    assert not budget.held_bytes


class _Context:
    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"
