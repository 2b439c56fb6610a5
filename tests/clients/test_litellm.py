"""litellm as a client, with its providers for OpenAI-compatible and vLLM servers."""

import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at the import: it must not download a list of prices

import litellm
from pydantic import BaseModel

from tests.clients.running import MODEL

QUESTION = [{"role": "user", "content": "Name a colour of the rainbow."}]


class Colour(BaseModel):
    """A format of the answer."""

    name: str


@pytest.fixture
def asked(mesh_url: str) -> dict[str, Any]:
    base = f"{mesh_url}/v1"
    return {"api_base": base, "api_key": "any", "max_tokens": 16, "temperature": 0, "timeout": 60}


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_a_chat_and_its_stream_are_the_same(asked: dict[str, Any], provider: str) -> None:
    asked |= {"model": f"{provider}/{MODEL}", "messages": QUESTION}
    whole = litellm.completion(**asked)
    chunks = litellm.completion(**asked, stream=True, stream_options={"include_usage": True})
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert text


def test_fields_are_passed_on(asked: dict[str, Any]) -> None:
    asked |= {"model": f"hosted_vllm/{MODEL}", "messages": QUESTION, "temperature": 1, "n": 2}
    answer = litellm.completion(
        **asked, logprobs=True, top_logprobs=2, seed=1, top_p=0.9, stop=["\n"], extra_body={"top_k": 5}
    )
    assert len(answer.choices) == 2


def test_a_format(asked: dict[str, Any]) -> None:
    asked |= {"model": f"hosted_vllm/{MODEL}", "messages": QUESTION, "max_tokens": 64}
    answer = litellm.completion(**asked, response_format=Colour)
    assert Colour.model_validate_json(answer.choices[0].message.content)


def test_text_completions(asked: dict[str, Any]) -> None:
    answer = litellm.text_completion(model=f"text-completion-openai/{MODEL}", prompt="One, two,", **asked)
    assert answer.choices[0].text


async def test_asynchronous(asked: dict[str, Any]) -> None:
    answer = await litellm.acompletion(model=f"openai/{MODEL}", messages=QUESTION, **asked)
    assert answer.choices[0].message.content


def test_errors(asked: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/nobody", messages=QUESTION, **asked)
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model=f"openai/{MODEL}", messages=QUESTION, **{**asked, "temperature": 9})
