"""Tools in chats of Ollama's API: what the worker is offered, and the calls that come back."""

from collections.abc import AsyncIterator

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.dialects.ollama import USER, chat
from infermesh_router.testing.router import StartRouter, StartWorker, delta, finished
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells.", "parameters": PARAMETERS}}
STYLE = pb.AnswerStyle(tool_format="hermes")
PIECES = ("Let me see. <tool_", 'call>{"name": "weather", "arguments": {"ci', 'ty": "Rome"}}</tool_call>')


async def call_weather(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Calls the tool, or tells its result."""
    yield pb.GenerateResponse(started=pb.Started(model=request.model, answer_style=STYLE))
    result = request.chat.messages[-1]
    for piece in (f"It is {result.content}.",) if result.role == "tool" else PIECES:
        yield delta(piece)
    yield finished()


async def test_the_loop_of_a_tool(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=call_weather)
    router = await start_router(worker)
    lines, _ = await chat(router, tools=[WEATHER])
    (called,) = [line["message"] for line in lines if "tool_calls" in line["message"]]
    (call,) = called["tool_calls"]
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}
    assert "".join(line["message"]["content"] for line in lines).strip() == "Let me see."
    assert lines[-1]["done_reason"] == "stop"
    (offered,) = worker.requests[0].chat.tools
    assert (offered.name, offered.description) == ("weather", "Tells.")
    messages = [USER, called, {"role": "tool", "content": "sunny", "tool_name": "weather"}]
    (answer,), _ = await chat(router, messages=messages, tools=[WEATHER], stream=False)
    assert answer["message"] == {"role": "assistant", "content": "It is sunny."}
    _, made, result = worker.requests[1].chat.messages
    assert made.tool_calls[0].id == result.tool_call_id == call["id"]


async def test_without_tools_what_looks_like_a_call_is_text(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=call_weather))
    (answer,), _ = await chat(router, stream=False)
    assert answer["message"] == {"role": "assistant", "content": "".join(PIECES)}


async def test_a_tool_needs_no_type_and_may_have_hints(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    function = {"name": "weather", "strict": True, "new": 1}
    _, headers = await chat(router, tools=[{"function": function}])
    assert worker.requests[0].chat.tools[0].name == "weather"
    assert headers["x-infermesh-ignored-fields"] == "tools[0].function.new,tools[].function.strict"


@pytest.mark.parametrize(
    ("tools", "path"),
    [
        ([{"type": "retrieval"}], "tools[0]"),
        ([{"type": "function", "function": {"name": ""}}], "tools[0].function.name"),
        ([WEATHER, WEATHER], "tools[1].function.name"),
        ("weather", "tools"),
    ],
)
async def test_tools_that_are_wrong(
    start_worker: StartWorker, start_router: StartRouter, tools: object, path: str
) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(InvalidArgument) as caught:
        await chat(router, tools=tools)
    assert next(iter(caught.value.fields)).startswith(path)
