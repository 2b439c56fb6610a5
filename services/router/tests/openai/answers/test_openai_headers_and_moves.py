"""What REST clients get besides the text: headers, cached tokens, and how their stream moved."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.sampling import sampling_header
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, started
from infermesh_runtime.rpc.context import RpcContext

MOVE = {"from": "a:1", "to": "b:2", "reason": "ENGINE_CRASHED"}


def finished(choice: int, *reasons: str) -> pb.GenerateResponse:
    """The end of a choice that was moved for each of the reasons; the prompt is counted in choice 0."""
    moves = [pb.Failover(from_endpoint="a:1", to_endpoint="b:2", reason=reason) for reason in reasons]
    usage = pb.Usage(prompt_tokens=3 * (choice == 0), completion_tokens=2, cached_tokens=1 * (choice == 0))
    ended = pb.Finished(choice=choice, finish_reason=pb.FINISH_REASON_STOP, usage=usage, failovers=moves)
    return pb.GenerateResponse(finished=ended)


async def move_once(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Choice 0 ends before the move, the others after it."""
    yield started(request.model)
    for choice in range(request.n or 1):
        yield delta("Hello", choice)
        yield finished(choice, *(["ENGINE_CRASHED"] if choice or request.n < 2 else []))


async def post(router: RunningRouter, path: str, **fields: Any) -> tuple[bytes, str, dict[str, str]]:
    """Body, content type and headers."""
    prompt = {"prompt": "hi"} if path == "CreateCompletion" else {"messages": [{"role": "user", "content": "hi"}]}
    body = {"model": "m"} | prompt | fields
    call = getattr(router.openai, path)(HttpBody(data=json.dumps(body).encode()))
    messages = [message async for message in call]
    headers = {key: value for key, value in await call.initial_metadata() if isinstance(value, str)}
    return b"".join(message.data for message in messages), messages[0].content_type, headers


def client_of(data: bytes, content_type: str, headers: dict[str, str]) -> openai.OpenAI:
    """OpenAI's own client, to which every request is answered with these bytes."""

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": content_type} | headers, content=data)

    transport = httpx.Client(transport=httpx.MockTransport(answer))
    return openai.OpenAI(base_url="http://mesh/v1", api_key="unused", http_client=transport)  # type: ignore[arg-type] # its type depends on the version of httpx


async def test_headers_say_who_why_and_how_long(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    data, content_type, headers = await post(await start_router(worker), "CreateChatCompletion")
    assert headers["x-infermesh-endpoint"] == worker.address
    assert headers["x-infermesh-device"] == "cpu"
    assert headers["x-infermesh-reason"] == "only_endpoint"
    assert int(headers["x-infermesh-queued-ms"]) == 0
    assert 0 <= float(headers["x-infermesh-overhead-ms"]) < 1000
    assert len(headers["x-infermesh-overhead-ms"].partition(".")[2]) == 1
    assert "x-infermesh-loading-ms" not in headers
    assert "x-infermesh-sampling" not in headers  # this worker does not say
    with client_of(data, content_type, headers) as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=[])
        assert raw.headers["x-infermesh-endpoint"] == worker.address
        answer = raw.parse()
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1
    assert "infermesh" not in (answer.model_extra or {})


def test_header_says_how_the_answer_is_sampled() -> None:
    neutral = pb.SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, repetition_penalty=1, presence_penalty=0)
    in_use = pb.GenerationDefaults(sampling=neutral)
    assert sampling_header(in_use) == "temperature=1"
    in_use.sampling.top_p, in_use.sampling.temperature, in_use.max_tokens = 0.9, 0.2, 64
    assert sampling_header(in_use) == "temperature=0.2, top_p=0.9, max_tokens=64"


@pytest.mark.parametrize("path", ["CreateChatCompletion", "CreateCompletion"])
async def test_a_whole_answer_says_that_its_stream_was_moved(
    start_worker: StartWorker, start_router: StartRouter, path: str
) -> None:
    router = await start_router(await start_worker(script=move_once))
    data, content_type, headers = await post(router, path, n=2)
    with client_of(data, content_type, headers) as client:
        api: Any = client.chat.completions if path == "CreateChatCompletion" else client.completions
        prompt: dict[str, Any] = {"messages": []} if path == "CreateChatCompletion" else {"prompt": ""}
        answer = api.create(model="m", **prompt)
    assert answer.infermesh == {"failovers": [MOVE]}
    assert len(answer.choices) == 2


@pytest.mark.parametrize("path", ["CreateChatCompletion", "CreateCompletion"])
@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_stream_says_so_with_the_choice_and_with_the_usage(
    start_worker: StartWorker, start_router: StartRouter, path: str, include_usage: bool
) -> None:
    router = await start_router(await start_worker(script=move_once))
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    data, content_type, headers = await post(router, path, stream=True, n=2, **options)
    with client_of(data, content_type, headers) as client:
        api: Any = client.chat.completions if path == "CreateChatCompletion" else client.completions
        prompt: dict[str, Any] = {"messages": []} if path == "CreateChatCompletion" else {"prompt": ""}
        chunks = list(api.create(model="m", stream=True, **prompt))
    ends = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert [(chunk.choices[0].index, chunk.model_extra.get("infermesh")) for chunk in ends] == [
        (0, None),
        (1, {"failovers": [MOVE]}),
    ]
    if include_usage:
        assert chunks[-1].usage.completion_tokens == 4
        assert chunks[-1].infermesh == {"failovers": [MOVE]}
        assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_moves_of_several_prompts_are_each_told_once(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=move_once))
    data, *_ = await post(router, "CreateCompletion", prompt=["one", "two"])
    body = json.loads(data)
    assert body["infermesh"] == {"failovers": [MOVE, MOVE]}
