"""The unmodified `openai-agents` package, which asks /v1/responses by default."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.e2e.mesh import Mesh

agents = pytest.importorskip("agents", reason="needs openai-agents")

asked: list[str] = []


@agents.function_tool  # type: ignore[untyped-decorator, unused-ignore] # untyped where the package is not installed
def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    asked.append(city)
    return "It is sunny."


@pytest.fixture
async def model(tool_mesh: Mesh, tool_model: str) -> AsyncIterator[Any]:
    agents.set_tracing_disabled(True)
    url = f"{tool_mesh.envoy.http}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield agents.OpenAIResponsesModel(tool_model, client)


def settings(**fields: Any) -> Any:
    return agents.ModelSettings(temperature=0, max_tokens=64, extra_body={"stop": ["."]}, **fields)


async def test_an_agent_answers(model: Any) -> None:
    agent = agents.Agent(name="a", instructions="Answer briefly.", model=model, model_settings=settings())
    result = await agents.Runner.run(agent, "Say hi.")
    assert result.final_output
    assert (await agents.Runner.run(agent, [*result.to_input_list(), {"role": "user", "content": "Bye."}])).final_output


async def test_an_agent_calls_its_tool(model: Any) -> None:
    asked.clear()
    forced = settings(tool_choice="required", parallel_tool_calls=False)
    agent = agents.Agent(name="a", model=model, model_settings=forced, tools=[get_weather])
    result = await agents.Runner.run(agent, "What is the weather in Oslo?", max_turns=3)
    assert len(asked) == 1
    kinds = [item.type for item in result.new_items]
    assert kinds == ["tool_call_item", "tool_call_output_item", "message_output_item"]


async def test_an_agents_events(model: Any) -> None:
    agent = agents.Agent(name="a", model=model, model_settings=settings())
    result = agents.Runner.run_streamed(agent, "Say hi.")
    texts = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(texts) == result.final_output
