"""What the clients in the venv of this lane are made to ask, for their recordings."""

import asyncio
import os
import tempfile
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at the import: it must not download a list of prices

import instructor
import litellm
import openai
from langchain_openai import ChatOpenAI
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from tests.conformance.recording.record import Calls, Client

MODEL = "MODEL"
QUESTION: list[Any] = [{"role": "user", "content": "Name a colour of the rainbow."}]


class Colour(BaseModel):
    """A format of the answer."""

    name: str
    warm: bool


def weather(city: str) -> str:
    """Tells the weather in a city."""
    return f"It is sunny in {city}."


def _pydantic_ai(url: str) -> Calls:
    def agent(**options: Any) -> Any:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        return Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client)), **options)

    def run(**options: Any) -> None:
        asyncio.run(agent(**options).run("What is the weather in Oslo?"))

    async def stream() -> None:
        async with agent().run_stream("Name a colour.") as answer:
            await answer.get_output()

    yield "agent", lambda: run(instructions="Be brief.")
    yield "agent, streamed", lambda: asyncio.run(stream())
    yield "agent with a tool", lambda: run(tools=[weather])
    yield "agent with an output type", lambda: run(output_type=NativeOutput(Colour))


def _instructor(url: str) -> Calls:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)

    def fill(mode: instructor.Mode) -> None:
        made = instructor.from_openai(client, mode=mode)
        made.chat.completions.create(model=MODEL, messages=QUESTION, response_model=Colour)

    def partial() -> None:
        made = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
        list(made.chat.completions.create_partial(model=MODEL, messages=QUESTION, response_model=Colour))

    yield "mode JSON_SCHEMA", lambda: fill(instructor.Mode.JSON_SCHEMA)
    yield "mode JSON", lambda: fill(instructor.Mode.JSON)
    yield "mode MD_JSON", lambda: fill(instructor.Mode.MD_JSON)
    yield "mode TOOLS", lambda: fill(instructor.Mode.TOOLS)
    yield "partial objects", partial


def _langchain(url: str) -> Calls:
    model = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="any", max_retries=0)
    yield "chat", lambda: model.invoke("Name a colour.")
    yield "chat, streamed", lambda: list(model.stream("Name a colour."))
    yield "chat with a tool", lambda: model.bind_tools([weather]).invoke("What is the weather in Oslo?")
    yield "structured output", lambda: model.with_structured_output(Colour).invoke("Name a colour.")


def _llama_index(url: str) -> Calls:
    common: dict[str, Any] = {"model": MODEL, "api_base": f"{url}/v1", "api_key": "any", "max_retries": 0}
    chat = OpenAILike(**common, is_chat_model=True, is_function_calling_model=True)
    text = OpenAILike(**common)
    structured = OpenAILike(**common, is_chat_model=True, should_use_structured_outputs=True)
    asked = [ChatMessage(role="user", content="Name a colour.")]
    tool = FunctionTool.from_defaults(weather)
    yield "chat", lambda: chat.chat(asked)
    yield "chat, streamed", lambda: list(chat.stream_chat(asked))
    yield "chat with a tool", lambda: chat.chat_with_tools([tool], user_msg="What is the weather in Oslo?")
    yield "completion", lambda: text.complete("One, two,")
    yield "completion, streamed", lambda: list(text.stream_complete("One, two,"))
    yield "structured output", lambda: structured.structured_predict(Colour, PromptTemplate("Name a colour."))


def _litellm(url: str) -> Calls:
    asked: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": "any", "max_retries": 0}
    chat = {**asked, "messages": QUESTION}
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    yield "chat, provider openai", lambda: litellm.completion(f"openai/{MODEL}", **chat)
    yield "chat, provider hosted_vllm", lambda: litellm.completion(f"hosted_vllm/{MODEL}", **chat)
    yield "chat, streamed", lambda: list(litellm.completion(f"hosted_vllm/{MODEL}", stream=True, **chat))
    yield "chat, tools", lambda: litellm.completion(f"hosted_vllm/{MODEL}", tools=[tool], **chat)
    yield "chat, format", lambda: litellm.completion(f"openai/{MODEL}", response_format=Colour, **chat)
    text = f"text-completion-openai/{MODEL}"
    yield "completion", lambda: litellm.text_completion(model=text, prompt="One, two,", **asked)


def _lm_eval(url: str) -> Calls:
    with tempfile.TemporaryDirectory() as folder:
        words = ["[UNK]", "end", "sky", "is", "blue", "the"]
        tokenizer = Tokenizer(WordLevel({word: token for token, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="end").save_pretrained(folder)
        model = LocalCompletionsAPI(
            model=MODEL, base_url=f"{url}/v1/completions", tokenizer=folder, tokenizer_backend="huggingface"
        )

        def ask(kind: str, *arguments: Any) -> None:
            getattr(model, kind)([Instance(kind, {}, arguments, 0)], disable_tqdm=True)

        yield "log likelihoods", lambda: ask("loglikelihood", "the sky is", " blue")
        yield "generation", lambda: ask("generate_until", "the sky is", {"until": ["\n"]})


CLIENTS = (
    Client("pydantic-ai", "pydantic-ai-slim", _pydantic_ai),
    Client("instructor", "instructor", _instructor),
    Client("langchain-openai", "langchain-openai", _langchain),
    Client("llama-index", "llama-index-llms-openai-like", _llama_index),
    Client("litellm", "litellm", _litellm),
    Client("lm-eval", "lm-eval", _lm_eval),
)
