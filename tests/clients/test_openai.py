"""The openai package, synchronous: every kind of call that it makes, on the real model."""

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.clients.running import MODEL

QUESTION: list[Any] = [{"role": "user", "content": "Name a colour of the rainbow."}]


class Colour(BaseModel):
    """What `.parse()` makes of an answer."""

    name: str
    warm: bool


@pytest.fixture(scope="module")
def client(mesh_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{mesh_url}/v1", api_key="any", timeout=60) as opened:
        yield opened


def test_models(client: OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def test_a_chat_and_its_stream_are_the_same(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": QUESTION,
        "max_completion_tokens": 99,
        "stop": [".", ","],
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_completion_and_its_stream_are_the_same(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "One, two,", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_parse_fills_a_pydantic_model(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Colour, max_tokens=64, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


def test_a_stream_is_parsed(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 64, "temperature": 0}
    with client.chat.completions.stream(**asked, response_format=Colour) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Colour)


def test_parse_says_when_the_answer_was_cut_off(client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Colour, max_tokens=2)


def test_log_probabilities(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 4, "temperature": 0}
    (choice,) = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3).choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert all(len(token.top_logprobs) == 3 for token in choice.logprobs.content)
    assert all(token.logprob == token.top_logprobs[0].logprob for token in choice.logprobs.content)


def test_choices_are_drawn_by_seed(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "temperature": 1.5, "n": 3}
    first, again = (client.chat.completions.create(**asked, seed=7).choices for _ in range(2))
    assert [choice.message.content for choice in first] == [choice.message.content for choice in again]
    assert len({choice.message.content for choice in first}) > 1


def test_token_ids_as_prompts_and_echo(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": [[504, 3575], [504]], "max_tokens": 1, "echo": True}
    answer = client.completions.create(**asked, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.logprobs and choice.logprobs.token_logprobs for choice in answer.choices)


def test_every_sampling_field(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_completion_tokens=4,
        top_p=0.9,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias={"5": -100},
        stop=["\n\n"],
        user="somebody",
        store=False,
        metadata={"team": "blue"},
        service_tier="auto",
        reasoning_effort="low",
        extra_body={"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4


@pytest.mark.parametrize(
    ("change", "kind", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
    ],
)
def test_errors_are_the_classes_of_the_package(
    client: OpenAI, change: dict[str, Any], kind: type[openai.APIStatusError], param: str
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, **change}
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**asked)
    assert caught.value.param == param
    assert caught.value.request_id


def test_a_timeout_is_the_packages(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 2000}
    impatient = client.with_options(timeout=0.2, max_retries=1)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(**asked, extra_body={"ignore_eos": True})


def test_a_stream_that_is_closed_ends(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 2000, "stream": True}
    with client.chat.completions.create(**asked, extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=1).choices


def test_threads_share_a_client(client: OpenAI) -> None:
    texts: list[str | None] = []

    def ask() -> None:
        answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8, temperature=0)
        texts.append(answer.choices[0].message.content)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 4
    assert len(set(texts)) == 1
