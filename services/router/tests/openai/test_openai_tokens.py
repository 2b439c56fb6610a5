"""/tokenize, /detokenize, /apply-template, /version and /ping, over a scripted worker."""

import json
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.testing.dialects.openai import USER
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, StartRouter
from infermesh_runtime.errors import InfermeshError, InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"a": 1}}}
LOOK = '[look: {"a":1}]'
OTHER = {"type": "function", "function": {"name": "go"}}


class TokenWorker(ScriptedWorker):
    """A worker whose tokens are bytes."""

    async def Tokenize(self, request: pb.TokenizeRequest, context: RpcContext) -> pb.TokenizeResponse:
        offered = "".join(f"[{tool.name}: {tool.parameters_json}]" for tool in request.chat.tools)
        text = request.text or offered + "".join(f"<{m.role}>{m.content}" for m in request.chat.messages)
        names = list(text) if request.return_tokens else ()
        ids = [0] * request.add_special_tokens + list(text.encode())
        return pb.TokenizeResponse(model=request.model, token_ids=ids, tokens=names, text=text, context_length=99)

    async def Detokenize(self, request: pb.DetokenizeRequest, context: RpcContext) -> pb.DetokenizeResponse:
        if any(token_id > 255 for token_id in request.token_ids):
            raise InvalidArgument("token_ids[0]: is too large", fields={"token_ids[0]": "is too large"})
        return pb.DetokenizeResponse(model=request.model, text=bytes(request.token_ids).decode())


@pytest.fixture
async def router(start_router: StartRouter) -> Any:
    worker = TokenWorker()
    await worker.start()
    yield await start_router(worker)
    await worker.stop()


async def ask(router: RunningRouter, method: str, message: Any = None, **body: Any) -> Any:
    request = HttpBody(data=json.dumps(body).encode()) if message is None else message
    try:
        answer = await getattr(router.openai, method)(request)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return json.loads(answer.data)


async def test_a_text(router: RunningRouter) -> None:
    answer = await ask(router, "Tokenize", model="m", prompt="hi", add_special_tokens=True, return_token_strs=True)
    assert answer == {"count": 3, "max_model_len": 99, "tokens": [0, 104, 105], "token_strs": ["h", "i"]}
    assert (await ask(router, "Tokenize", prompt="hi"))["token_strs"] is None


async def test_a_conversation(router: RunningRouter) -> None:
    assert (await ask(router, "Tokenize", model="m", messages=[USER]))["count"] == len("<user>hi")
    assert await ask(router, "ApplyTemplate", model="m", messages=[USER]) == {"prompt": "<user>hi"}


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        ({"tools": [TOOL]}, LOOK),
        ({"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}, LOOK),
        ({"tools": [TOOL, OTHER], "tool_choice": {"type": "function", "function": {"name": "go"}}}, LOOK + "[go: ]"),
        ({"tools": [TOOL], "tool_choice": "none"}, ""),
        ({"functions": [TOOL["function"]], "function_call": {"name": "look"}}, LOOK),
    ],
)
async def test_tools_are_a_part_of_a_conversation(router: RunningRouter, fields: dict[str, Any], offered: str) -> None:
    body = {"model": "m", "messages": [USER], **fields}
    assert await ask(router, "ApplyTemplate", **body) == {"prompt": f"{offered}<user>hi"}
    assert (await ask(router, "Tokenize", **body))["count"] == len(f"{offered}<user>hi")


async def test_a_choice_must_be_among_the_tools(router: RunningRouter) -> None:
    choice = {"type": "function", "function": {"name": "go"}}
    with pytest.raises(InvalidArgument) as caught:
        await ask(router, "Tokenize", model="m", messages=[USER], tools=[TOOL], tool_choice=choice)
    assert list(caught.value.fields) == ["tool_choice.function.name"]


async def test_a_long_text_is_read_in_another_process(router: RunningRouter) -> None:
    answer = await ask(router, "Tokenize", model="m", prompt="a" * 300_000)
    assert answer["count"] == 300_000


async def test_tokens_back_to_text(router: RunningRouter) -> None:
    assert await ask(router, "Detokenize", model="m", tokens=[104, 105]) == {"prompt": "hi"}
    for tokens, path in (([300], "tokens[0]"), ([-1], "tokens[0]"), ("x", "tokens")):
        with pytest.raises(InfermeshError) as caught:
            await ask(router, "Detokenize", model="m", tokens=tokens)
        assert next(iter(caught.value.fields)) == path


async def test_the_native_calls_are_relayed(router: RunningRouter) -> None:
    answer = await router.inference.Tokenize(pb.TokenizeRequest(model="m", text="hi"))
    assert list(answer.token_ids) == [104, 105]
    back = await router.inference.Detokenize(pb.DetokenizeRequest(model="m", token_ids=[104]))
    assert back.text == "h"


async def test_version_and_ping(router: RunningRouter) -> None:
    assert (await ask(router, "GetVersion", openai_pb2.GetVersionRequest()))["version"]
    assert (await ask(router, "GetOpenAPI", openai_pb2.GetOpenAPIRequest()))["paths"]
    assert await ask(router, "Ping", openai_pb2.PingRequest()) == {"status": "ok"}
