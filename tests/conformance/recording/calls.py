"""What the clients in the development venv are made to ask: openai, openai-agents, anthropic and ollama."""

import asyncio
from typing import Any

import anthropic
import ollama
import openai
from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from pydantic import BaseModel

from tests.conformance.recording.record import Calls, Client

MODEL = "MODEL"
QUESTION: list[Any] = [{"role": "user", "content": "Name a colour of the rainbow."}]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


class Colour(BaseModel):
    """A format of the answer."""

    name: str
    warm: bool


def _openai(url: str) -> Calls:
    function: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER, "strict": True}}
    tool: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
    every: dict[str, Any] = {
        "max_completion_tokens": 4,
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"5": -100},
        "stop": ["\n\n"],
        "n": 2,
        "seed": 1,
        "logprobs": True,
        "top_logprobs": 2,
        "user": "somebody",
        "safety_identifier": "somebody",
        "prompt_cache_key": "conversation",
        "store": False,
        "metadata": {"team": "blue"},
        "service_tier": "auto",
        "verbosity": "low",
        "reasoning_effort": "low",
    }
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        chat, responses = client.chat.completions, client.responses
        yield "models", lambda: list(client.models.list())
        yield "one model", lambda: client.models.retrieve(MODEL)
        yield "chat", lambda: chat.create(model=MODEL, messages=QUESTION)
        yield "chat, streamed", lambda: list(chat.create(model=MODEL, messages=QUESTION, stream=True))
        yield "chat, parsed", lambda: chat.parse(model=MODEL, messages=QUESTION, response_format=Colour)
        yield "chat, every field", lambda: chat.create(model=MODEL, messages=QUESTION, **every)
        choice: Any = {"type": "function", "function": {"name": "weather"}}
        tools: dict[str, Any] = {"tools": [function], "tool_choice": choice, "parallel_tool_calls": False}
        yield "chat, tools", lambda: chat.create(model=MODEL, messages=QUESTION, **tools)
        prediction: Any = {"type": "content", "content": "red"}
        yield "chat, prediction", lambda: chat.create(model=MODEL, messages=QUESTION, prediction=prediction)
        yield "completion", lambda: client.completions.create(model=MODEL, prompt="One, two,")
        scored: dict[str, Any] = {"max_tokens": 1, "echo": True, "logprobs": 1}
        yield "completion, echo", lambda: client.completions.create(model=MODEL, prompt=[[1, 2], [3]], **scored)
        yield "response", lambda: responses.create(model=MODEL, input="Name a colour.")
        streamed: dict[str, Any] = {"input": "Name a colour.", "instructions": "Be brief.", "stream": True}
        yield "response, streamed", lambda: list(responses.create(model=MODEL, **streamed))
        yield "response, parsed", lambda: responses.parse(model=MODEL, input="Name a colour.", text_format=Colour)
        asked: dict[str, Any] = {"input": "Name a colour.", "tools": [tool], "tool_choice": "required", "store": False}
        yield "response, tools", lambda: responses.create(model=MODEL, **asked)


def _agents(url: str) -> Calls:
    set_tracing_disabled(True)

    @function_tool
    def get_weather(city: str) -> str:
        """Tells the weather in a city."""
        return f"It is sunny in {city}."

    async def run(question: str = "What is the weather in Oslo?", *, is_streamed: bool = False, **options: Any) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            agent: Agent[Any] = Agent(name="helper", model=OpenAIResponsesModel(MODEL, client), **options)
            if not is_streamed:
                await Runner.run(agent, question)
                return
            async for _ in Runner.run_streamed(agent, question).stream_events():
                pass

    yield "agent", lambda: asyncio.run(run(instructions="Be brief."))
    yield "agent, streamed", lambda: asyncio.run(run("Name a colour.", is_streamed=True))
    yield "agent with a tool", lambda: asyncio.run(run(tools=[get_weather]))
    yield "agent with an output type", lambda: asyncio.run(run(output_type=Colour))


def _anthropic(url: str) -> Calls:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION}
    tool: Any = {"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER}
    cached: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    more: dict[str, Any] = {"system": cached, "stop_sequences": ["\n\n"], "metadata": {"user_id": "somebody"}}
    tools: dict[str, Any] = {"tools": [tool], "tool_choice": {"type": "any"}}

    def stream(messages: anthropic.resources.Messages) -> None:
        with messages.stream(max_tokens=8, **asked) as events:
            events.until_done()

    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        messages = client.messages
        yield "message", lambda: messages.create(max_tokens=8, **asked)
        yield "message, streamed", lambda: stream(messages)
        yield "message, system and stop", lambda: messages.create(max_tokens=8, **more, **asked)
        yield "message, tools", lambda: messages.create(max_tokens=8, **tools, **asked)
        yield "message, parsed", lambda: messages.parse(max_tokens=8, output_format=Colour, **asked)
        yield "message, thinking", lambda: messages.create(max_tokens=8, thinking={"type": "adaptive"}, **asked)
        yield "tokens counted", lambda: messages.count_tokens(tools=[tool], **asked)


def _ollama(url: str) -> Calls:
    options = {"temperature": 0.5, "num_ctx": 2048, "num_predict": 8, "seed": 1, "stop": ["\n\n"]}

    def weather(city: str) -> str:
        """Tells the weather in a city."""
        return f"It is sunny in {city}."

    with ollama.Client(url) as client:
        yield "models", client.list
        yield "loaded models", client.ps
        yield "one model", lambda: client.show(MODEL)
        yield "chat", lambda: client.chat(MODEL, QUESTION)
        yield "chat, streamed", lambda: list(client.chat(MODEL, QUESTION, stream=True))
        yield "chat, options", lambda: client.chat(MODEL, QUESTION, options=options, keep_alive="5m")
        yield "chat, format", lambda: client.chat(MODEL, QUESTION, format=Colour.model_json_schema())
        yield "chat, tools", lambda: client.chat(MODEL, QUESTION, tools=[weather])
        yield "prompt", lambda: client.generate(MODEL, "One, two,", system="Count.")
        yield "prompt, streamed", lambda: list(client.generate(MODEL, "One, two,", stream=True))


CLIENTS = (
    Client("openai", "openai", _openai, asked_for=("chat, every field", "chat, prediction")),
    Client("openai-agents", "openai-agents", _agents),
    Client("anthropic", "anthropic", _anthropic),
    Client("ollama", "ollama", _ollama),
)
