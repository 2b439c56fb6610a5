"""The same loop with the unmodified anthropic and ollama packages."""

from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import pytest

from tests.tool_loops.weather import DESCRIPTION, FUNCTION, QUESTION, SCHEMA, TEMPERATURES, result

pytestmark = pytest.mark.timeout(900)

ASKED: list[Any] = [{"role": "user", "content": QUESTION}]


@pytest.mark.parametrize("choice", ["auto", "any"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropic(url: str, model: str, stream: bool, choice: str) -> None:
    tool: Any = {"name": "get_weather", "description": DESCRIPTION, "input_schema": SCHEMA}
    greedy: dict[str, Any] = {"model": model, "max_tokens": 64, "tools": [tool], "extra_body": {"temperature": 0}}
    chosen: Any = {"type": choice, "disable_parallel_tool_use": True}
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, timeout=600) as client:
        if stream:
            with client.messages.stream(messages=ASKED, tool_choice=chosen, **greedy) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(messages=ASKED, tool_choice=chosen, **greedy)
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert (message.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
        found: Any = {"type": "tool_result", "tool_use_id": call.id, "content": result("Paris")}
        messages = [*ASKED, message.to_param(), {"role": "user", "content": [found]}]
        last = client.messages.create(messages=messages, tool_choice={"type": "none"}, **greedy)
    (block,) = last.content
    assert block.type == "text"
    assert TEMPERATURES["Paris"] in block.text


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    with ollama.Client(url, timeout=600) as opened:
        yield opened


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_ollama(client: ollama.Client, model: str, stream: bool) -> None:
    """Its API cannot force a call."""
    options = {"temperature": 0, "num_predict": 64}
    if stream:
        parts = list(client.chat(model, ASKED, tools=[FUNCTION], options=options, stream=True))
        calls = [call for part in parts for call in part.message.tool_calls or ()]
    else:
        calls = list(client.chat(model, ASKED, tools=[FUNCTION], options=options).message.tool_calls or ())
    (call,) = calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    said = ollama.Message(role="assistant", tool_calls=calls)
    told = ollama.Message(role="tool", content=result("Paris"), tool_name=call.function.name)
    last = client.chat(model, [*ASKED, said, told], options=options)
    assert TEMPERATURES["Paris"] in (last.message.content or "")
