"""The SDK against a real gRPC server: events, errors, cancellation, the requests that options become."""

import asyncio
from contextlib import aclosing, closing

import pytest

from infermesh.inference.v1 import inference_pb2
from infermesh_client import AsyncClient, ChatMessage, Client
from infermesh_client.request import build_request
from infermesh_runtime.errors import DeviceNotAvailable, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from libs.client.tests.conftest import RunningMesh

CHAT: list[ChatMessage] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


def test_events_of_a_stream(mesh: RunningMesh) -> None:
    with Client(mesh.address) as client:
        started, *deltas, finished = client.generate(CHAT, temperature=0, max_tokens=5)
    assert isinstance(started, inference_pb2.Started)
    assert started.endpoint == "10.0.0.1:7"
    assert "".join(delta.text for delta in deltas if isinstance(delta, inference_pb2.Delta)) == "Hello, world!"
    assert isinstance(finished, inference_pb2.Finished)
    assert finished.finish_reason == inference_pb2.FINISH_REASON_STOP
    (request,) = mesh.servicer.requests
    assert [message.content for message in request.chat.messages] == ["Be brief.", "hi"]
    assert (request.sampling.temperature, request.stop.max_tokens) == (0.0, 5)


async def test_async_events_of_a_stream(mesh: RunningMesh) -> None:
    async with AsyncClient(mesh.address) as client:
        events = [event async for event in client.generate("text")]
        assert len(events) == 6
        assert (await client.health()).state == inference_pb2.ENDPOINT_STATE_READY
        assert [model.name for model in await client.models()] == ["tiny"]
        assert [endpoint.address for endpoint in await client.endpoints()] == ["10.0.0.1:7"]
        assert [len(endpoints) async for endpoints in client.watch_endpoints()] == [1]


def test_health_models_endpoints(mesh: RunningMesh) -> None:
    with Client(mesh.address, timeout_s=5) as client:
        assert client.health().device.name == "Test CPU"
        assert [model.name for model in client.models()] == ["tiny"]
        assert [endpoint.address for endpoint in client.endpoints()] == ["10.0.0.1:7"]
        assert [len(endpoints) for endpoints in client.watch_endpoints()] == [1]


def test_closing_the_iterator_cancels_the_call(mesh: RunningMesh) -> None:
    mesh.servicer.endless = True
    with Client(mesh.address) as client:
        with closing(client.generate("text")) as events:
            next(events)
        assert mesh.servicer.cancelled.wait(5)


async def test_closing_the_async_iterator_cancels_the_call(mesh: RunningMesh) -> None:
    mesh.servicer.endless = True
    async with AsyncClient(mesh.address) as client:
        async with aclosing(client.generate("text")) as events:
            await anext(events)
        assert await asyncio.to_thread(mesh.servicer.cancelled.wait, 5)


async def test_cancelling_the_task_cancels_the_call(mesh: RunningMesh) -> None:
    mesh.servicer.endless = True
    started = asyncio.Event()

    async def generate(client: AsyncClient) -> None:
        async for _ in client.generate("text"):
            started.set()

    async with AsyncClient(mesh.address) as client:
        task = asyncio.create_task(generate(client))
        await started.wait()
        task.cancel()
        assert await asyncio.to_thread(mesh.servicer.cancelled.wait, 5)
        with pytest.raises(asyncio.CancelledError):
            await task


def test_errors_keep_their_class_and_details(mesh: RunningMesh) -> None:
    with Client(mesh.address) as client, pytest.raises(DeviceNotAvailable, match="there is no gpu") as caught:
        list(client.generate("text", device="gpu"))
    assert caught.value.metadata == {"devices": "cpu"}


def test_nobody_listens() -> None:
    with Client("127.0.0.1:1", timeout_s=5) as client, pytest.raises(Unavailable):
        client.health()


def test_prompts() -> None:
    assert build_request("text", {}).text == "text"
    tokens = build_request([1, 2, 3], {}).token_ids
    assert (list(tokens.shape), tokens.data[:8]) == ([3], (1).to_bytes(8, "little"))
    assert build_request(CHAT[1:], {}).chat.messages[0].role == "user"


def test_options_go_where_the_contract_has_them() -> None:
    request = build_request(
        "x", {"stop": ["a"], "min_tokens": 2, "top_k": 5, "logit_bias": {3: 1.5}, "regex": "a+", "logprobs": 0, "n": 2}
    )
    assert (list(request.stop.strings), request.stop.min_tokens, request.sampling.top_k) == (["a"], 2, 5)
    assert dict(request.sampling.logit_bias) == {3: 1.5}
    assert (request.format.regex, request.HasField("logprobs"), request.n) == ("a+", True, 2)


def test_what_is_not_given_is_not_set() -> None:
    request = build_request("x", {"temperature": None})  # type: ignore[typeddict-item] # what callers do
    assert not request.HasField("sampling")
    assert not request.HasField("stop")


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("x", {"temprature": 1}),
        ("x", {"max_tokens": "many"}),
        ("x", {"max_tokens": -1}),
        ("x", {"regex": "a", "grammar": "b"}),
        ([], {}),
        ("x", {"tools": [inference_pb2.Tool(name="f")]}),
        ([{"role": "user", "content": 5}], {}),
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(prompt: object, options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        build_request(prompt, options)  # type: ignore[arg-type] # bad on purpose


def test_orders_to_endpoints(mesh: RunningMesh) -> None:
    with Client(mesh.address, timeout_s=5) as client:
        assert client.drain_endpoint("10.0.0.1:7", move_after_s=0) == 2
        client.resume_endpoint("10.0.0.1:7")
        assert client.load_model("tiny", keep_alive_s=0) == ("other",)
        client.unload_model("tiny")
        with pytest.raises(NotFound, match=r"available: 10\.0\.0\.1:7"):
            client.drain_endpoint("x:1")
    assert mesh.servicer.orders[2].HasField("keep_alive_s")


async def test_async_orders_to_endpoints(mesh: RunningMesh) -> None:
    async with AsyncClient(mesh.address, timeout_s=5) as client:
        assert await client.drain_endpoint("10.0.0.1:7") == 0
        await client.resume_endpoint("10.0.0.1:7")
        assert await client.load_model("tiny", pinned=True) == ("other",)
        await client.unload_model("tiny", force=True)
        with pytest.raises(ResourceExhausted, match="9 GB"):
            await client.load_model("huge")
    assert not mesh.servicer.orders[2].HasField("keep_alive_s")


def test_a_key_is_sent(mesh: RunningMesh) -> None:
    for key in ("im-secret", ""):
        with Client(mesh.address, api_key=key) as client:
            assert list(client.generate("hi"))
    assert mesh.servicer.keys == ["Bearer im-secret", ""]


async def test_an_async_client_sends_its_key(mesh: RunningMesh) -> None:
    async with AsyncClient(mesh.address, api_key="im-secret") as client:
        assert [event async for event in client.generate("hi")]
    assert mesh.servicer.keys == ["Bearer im-secret"]
