"""The unmodified `openai-agents` package, which asks /v1/responses by default."""

from collections.abc import AsyncIterator

import openai
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled

from tests.conformance.tool_model import TOOL_MODEL
from tests.e2e.mesh import Mesh

asked: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    asked.append(city)
    return "It is sunny."


@pytest.fixture
async def model(tool_mesh: Mesh) -> AsyncIterator[OpenAIResponsesModel]:
    set_tracing_disabled(True)
    url = f"{tool_mesh.envoy.http}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield OpenAIResponsesModel(TOOL_MODEL, client)


SHORT = ModelSettings(temperature=0, max_tokens=64, extra_body={"stop": ["."]})
FORCED = SHORT.resolve(ModelSettings(tool_choice="required", parallel_tool_calls=False))


async def test_an_agent_answers(model: OpenAIResponsesModel) -> None:
    agent = Agent(name="a", instructions="Answer briefly.", model=model, model_settings=SHORT)
    result = await Runner.run(agent, "Say hi.")
    assert result.final_output
    assert (await Runner.run(agent, [*result.to_input_list(), {"role": "user", "content": "Bye."}])).final_output


@pytest.mark.cpu_only
async def test_an_agent_calls_its_tool(model: OpenAIResponsesModel) -> None:
    asked.clear()
    agent = Agent(name="a", model=model, model_settings=FORCED, tools=[get_weather])
    result = await Runner.run(agent, "What is the weather in Oslo?", max_turns=3)
    assert len(asked) == 1
    kinds = [item.type for item in result.new_items]
    assert kinds == ["tool_call_item", "tool_call_output_item", "message_output_item"]


async def test_an_agents_events(model: OpenAIResponsesModel) -> None:
    result = Runner.run_streamed(Agent(name="a", model=model, model_settings=SHORT), "Say hi.")
    texts = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(texts) == result.final_output
