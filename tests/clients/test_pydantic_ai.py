"""pydantic-ai: an agent over the Chat Completions API."""

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from tests.clients.running import MODEL

SHORT = ModelSettings(max_tokens=64, temperature=0)


class Colour(BaseModel):
    """A format of the answer."""

    name: str


def chat_model(url: str, name: str = MODEL) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="any"))


async def test_an_agent_answers(mesh_url: str) -> None:
    agent = Agent(chat_model(mesh_url), instructions="Be brief.", model_settings=SHORT)
    first = await agent.run("Name a colour.")
    again = await agent.run("Another one.", message_history=first.all_messages())
    assert first.output
    assert again.usage.output_tokens > 0


async def test_an_agent_streams(mesh_url: str) -> None:
    agent = Agent(chat_model(mesh_url), model_settings=SHORT)
    async with agent.run_stream("Name a colour.") as answer:
        parts = [part async for part in answer.stream_text(delta=True)]
    assert "".join(parts) == (await agent.run("Name a colour.")).output


async def test_an_agent_fills_a_model(mesh_url: str) -> None:
    agent = Agent(chat_model(mesh_url), output_type=NativeOutput(Colour), model_settings=SHORT)
    assert isinstance((await agent.run("Name a colour.")).output, Colour)


async def test_errors(mesh_url: str) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(chat_model(mesh_url, "nobody")).run("Hello")
    assert caught.value.status_code == 404
