"""The unmodified ollama package, through Envoy, with a worker that thinks, calls tools, fails late and unloads."""

from collections.abc import AsyncIterator
from pathlib import Path

import ollama
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.router import delta, finished, running_router
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.rpc.context import RpcContext

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

STYLE = pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True)
ANSWERS = {
    "What is the weather?": (
        "I should look.</think>",
        '<tool_call>{"name": "weather", "arg',
        'uments": {"city": "Rome"}}',
    ),
    "sunny in Rome": ("</think>", "It is sunny."),
    "Fail": ("</think>", "It"),
}


def weather(city: str) -> str:
    """Tells the weather.

    Args:
      city: The city to tell it of.
    """
    return f"sunny in {city}"


async def answer(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    said = request.chat.messages[-1].content
    yield pb.GenerateResponse(started=pb.Started(model=request.model, answer_style=STYLE))
    for piece in ANSWERS[said]:
        yield delta(piece)
    if said == "Fail":
        raise FailedPrecondition("The script ends here.", reason="SCRIPT_ENDS")
    yield finished()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[LoadingWorker]:
    started = LoadingWorker(models=("m",), script=answer)
    await started.start()
    yield started
    await started.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(worker: LoadingWorker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder: Path = tmp_path_factory.mktemp("envoy")
    free = Address("127.0.0.1", 0)
    async with running_router(worker.address) as router:
        options = EnvoyOptions(http=free, grpc=free, router=Address.parse(router.address))
        with EnvoyProcess(options, folder) as envoy:
            yield envoy.http


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(url, timeout=30) as opened:
        yield opened


@pytest.mark.parametrize("stream", [False, True])
async def test_the_loop_of_a_tool(client: ollama.AsyncClient, worker: LoadingWorker, stream: bool) -> None:
    messages = [ollama.Message(role="user", content="What is the weather?")]
    if stream:
        parts = [part async for part in await client.chat("m", messages, tools=[weather], stream=True, think=True)]
        thinking = "".join(part.message.thinking or "" for part in parts)
        calls = [call for part in parts for call in part.message.tool_calls or ()]
        messages.append(ollama.Message(role="assistant", thinking=thinking, tool_calls=calls))
    else:
        messages.append((await client.chat("m", messages, tools=[weather], think=True)).message)
    (call,) = messages[-1].tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Rome"})
    assert messages[-1].thinking == "I should look."
    result = weather(**call.function.arguments)
    messages.append(ollama.Message(role="tool", content=result, tool_name=call.function.name))
    final = await client.chat("m", messages, tools=[weather])
    assert final.message.content == "It is sunny."
    asked = worker.requests[-1].chat
    assert asked.messages[1].tool_calls[0].id == asked.messages[2].tool_call_id
    assert "The city to tell it of." in asked.tools[0].parameters_json


async def test_an_error_in_the_middle_of_a_stream(client: ollama.AsyncClient) -> None:
    parts = await client.generate("m", "Fail", stream=True)
    assert (await anext(parts)).response == "It"
    with pytest.raises(ollama.ResponseError, match=r"The script ends here\."):
        await anext(parts)


async def test_a_model_is_unloaded(client: ollama.AsyncClient, worker: LoadingWorker) -> None:
    assert [model.model for model in (await client.ps()).models] == ["m:latest"]
    assert (await client.generate("m", keep_alive=0)).done_reason == "unload"
    (told,) = worker.loads
    assert 0 < told.keep_alive_s < 0.1
