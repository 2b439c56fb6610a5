"""Answers of the Anthropic front over real servers: messages, events, errors in their middle, and headers."""

import json
from collections.abc import AsyncIterator

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.dialects.anthropic import HI, ask
from infermesh_router.testing.router import StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.errors import ContextLengthExceeded, InvalidArgument
from infermesh_runtime.rpc.context import RpcContext

USAGE = {
    "input_tokens": 2,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 1,
    "output_tokens": 2,
    "output_tokens_details": {"thinking_tokens": 0},
}


async def think(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    style = pb.AnswerStyle(reasoning="think", reasoning_opened=True)
    yield pb.GenerateResponse(started=pb.Started(model="m", prompt_tokens=3, answer_style=style))
    for piece in ("so", "me</think>", "\n\n", "Wel", "l."):
        yield delta(piece)
    yield finished()


async def fail_late(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started("m", request.seed)
    yield delta("Hel")
    raise InvalidArgument("chat.messages[1] is broken", fields={"chat.messages[1]": "is broken"})


async def fail_early(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    raise InvalidArgument(
        "chat.messages[2].content is bad; stop.strings too", fields={"chat.messages[2].content": "is bad"}
    )
    yield pb.GenerateResponse()


async def refuse_length(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    raise ContextLengthExceeded("too long", metadata={"prompt_tokens": "9", "context_length": "8"})
    yield pb.GenerateResponse()


async def test_a_message(start_worker: StartWorker, start_router: StartRouter) -> None:
    answer = await ask(await start_router(await start_worker()))
    body = answer.body
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello world"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE | {"service_tier": "standard"},
    }
    assert answer.headers["x-infermesh-reason"] == "only_endpoint"


async def test_the_events_of_a_message(start_worker: StartWorker, start_router: StartRouter) -> None:
    answer = await ask(await start_router(await start_worker()), stream=True)
    opening, *events = answer.events
    assert opening["message"]["content"] == []
    assert opening["message"]["stop_reason"] is None
    assert opening["message"]["usage"]["input_tokens"] == 3
    assert events == [
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " world"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
        {"type": "message_stop"},
    ]


async def test_thinking_is_a_block_with_a_signature(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(script=think))
    body = (await ask(router)).body
    thinking, text = body["content"]
    assert body["usage"]["output_tokens_details"] == {"thinking_tokens": 2}
    assert (thinking["thinking"], text["text"].strip()) == ("some", "Well.")
    events = (await ask(router, stream=True)).events
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(each.get("thinking", "") for each in deltas) == "some"
    assert [each["signature"] for each in deltas if "signature" in each] == [thinking["signature"]]
    assert "".join(each.get("text", "") for each in deltas) == text["text"]
    starts = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert starts == ["thinking", "text"]


@pytest.mark.parametrize(
    ("end", "limit", "told"),
    [
        (("END", pb.FINISH_REASON_STOP), 2, ("stop_sequence", "END")),
        (("<eos>", pb.FINISH_REASON_STOP), 2, ("end_turn", None)),
        (("", pb.FINISH_REASON_LENGTH), 2, ("max_tokens", None)),
        (("", pb.FINISH_REASON_LENGTH), 3, ("model_context_window_exceeded", None)),
    ],
)
async def test_why_an_answer_ended(
    start_worker: StartWorker,
    start_router: StartRouter,
    end: tuple[str, pb.FinishReason],
    limit: int,
    told: tuple[str, str | None],
) -> None:
    async def answer(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started("m", request.seed)
        yield delta("a")
        last = finished()
        last.finished.stop, last.finished.finish_reason = end
        yield last

    router = await start_router(await start_worker(script=answer))
    body = (await ask(router, stop_sequences=["END"], max_tokens=limit)).body
    assert (body["stop_reason"], body["stop_sequence"]) == told


async def test_an_error_in_the_middle_is_an_event(start_worker: StartWorker, start_router: StartRouter) -> None:
    answer = await ask(await start_router(await start_worker(script=fail_late)), stream=True, system="s")
    last = answer.events[-1]
    assert last == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "messages[0] is broken",
            "details": {"error_code": "invalid_argument"},
        },
        "request_id": answer.headers["x-request-id"],
    }


async def test_an_error_before_the_answer_has_the_names_of_the_body(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=fail_early))
    messages = [HI, {"role": "assistant", "content": "a"}, HI]
    with pytest.raises(InvalidArgument) as refused:
        await ask(router, stream=True, system="s", messages=messages)
    assert refused.value.message == "messages[1] is bad; stop_sequences too"
    assert set(refused.value.fields) == {"messages[1]"}


async def test_a_prompt_that_is_too_long_is_told_in_the_words_that_agents_know(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=refuse_length))
    with pytest.raises(ContextLengthExceeded, match="prompt is too long: 9 tokens > 8 maximum"):
        await ask(router)


async def test_fields_without_an_effect_are_named(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def ignore(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield pb.GenerateResponse(started=pb.Started(model="m", ignored_fields=["chat.enable_thinking"]))
        yield finished()

    router = await start_router(await start_worker(script=ignore))
    answer = await ask(router, thinking={"type": "enabled", "budget_tokens": 1024})
    assert answer.headers["x-infermesh-ignored-fields"] == "thinking.budget_tokens,thinking"
    assert answer.body["content"] == [{"type": "text", "text": ""}]


async def test_models_have_the_shape_that_the_client_knows(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker())
    version = (("anthropic-version", "2023-06-01"),)

    async def listed(metadata: tuple[tuple[str, str], ...]) -> HttpBody:
        answer: HttpBody = await router.channel.unary_unary(
            "/infermesh.openai.v1.OpenAIService/ListModels", response_deserializer=HttpBody.FromString
        )(b"", metadata=metadata)
        return answer

    theirs, ours = json.loads((await listed(version)).data), json.loads((await listed(())).data)
    assert (theirs["has_more"], theirs["first_id"], theirs["last_id"]) == (False, "m", "m")
    assert theirs["data"][0]["max_input_tokens"] == 2048
    assert ours["object"] == "list"


async def test_a_large_body_is_read_in_another_process(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    answer = await ask(await start_router(worker), system="s", messages=[HI | {"content": "x" * 300_000}])
    assert answer.body["content"] == [{"type": "text", "text": "Hello world"}]
    (request,) = worker.requests
    assert [message.role for message in request.chat.messages] == ["system", "user"]
