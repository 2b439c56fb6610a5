"""LlamaIndex's OpenAILike: chats, completions, their streams, and a structured answer."""

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.clients.running import MODEL

QUESTION = [ChatMessage(role="user", content="Name a colour of the rainbow.")]


class Colour(BaseModel):
    """A format of the answer."""

    name: str


def make(mesh_url: str, **options: Any) -> OpenAILike:
    base = f"{mesh_url}/v1"
    settings = {"max_tokens": 24, "temperature": 0, "max_retries": 0, "context_window": 8192, **options}
    return OpenAILike(model=MODEL, api_base=base, api_key="any", **settings)


@pytest.mark.parametrize("is_chat_model", [True, False])
def test_answers_and_streams(mesh_url: str, is_chat_model: bool) -> None:
    llm = make(mesh_url, is_chat_model=is_chat_model)
    whole = llm.chat(QUESTION).message.content
    *_, last = llm.stream_chat(QUESTION)
    assert last.message.content == whole
    assert whole
    text = llm.complete("One, two,").text
    *_, end = llm.stream_complete("One, two,")
    assert end.text == text


async def test_asynchronous(mesh_url: str) -> None:
    llm = make(mesh_url, is_chat_model=True)
    assert (await llm.achat(QUESTION)).message.content
    *_, last = [part async for part in await llm.astream_chat(QUESTION)]
    assert last.message.content


def test_a_structured_answer(mesh_url: str) -> None:
    llm = make(mesh_url, is_chat_model=True, should_use_structured_outputs=True, max_tokens=64)
    found = llm.structured_predict(Colour, PromptTemplate("Name a colour."))
    assert isinstance(found, Colour)
