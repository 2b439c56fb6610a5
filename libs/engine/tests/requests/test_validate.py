"""The bounds of a request, and the messages for values outside them."""

from dataclasses import replace
from typing import Any

import pytest

from infermesh_engine.requests.request import Continuation, GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.requests.validate import validate
from infermesh_runtime.errors import Code, ContextLengthExceeded, InvalidArgument

INF, NAN = float("inf"), float("nan")
REQUEST = GenerationRequest(request_id="r", prompt_token_ids=(1, 2, 3), seed=0)


def check(request: GenerationRequest, context_length: int = 16) -> None:
    validate(request, vocab_size=100, context_length=context_length)


def fields_of(request: GenerationRequest) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        check(request)
    assert type(caught.value) is InvalidArgument
    for field, why in caught.value.fields.items():
        assert f"{field} {why}" in caught.value.message
    return dict(caught.value.fields)


GOOD = [
    {"temperature": 0.0},
    {"temperature": 2.0},
    {"top_p": 1e-6, "min_p": 1.0, "top_k": 2**32 - 1},
    {"repetition_penalty": 2.0, "presence_penalty": -2.0, "frequency_penalty": 2.0},
    {"logit_bias": {0: -100.0, 99: 100.0}},
]


@pytest.mark.parametrize("sampling", GOOD)
def test_bounds_belong_to_the_ranges(sampling: dict[str, Any]) -> None:
    check(replace(REQUEST, sampling=SamplingParams(**sampling)))


def test_other_bounds_belong_too() -> None:
    generated = (Continuation(choice=127, token_ids=(99,)), Continuation(choice=0, token_ids=()))
    stop = StopConditions(strings=("a",) * 16, token_ids=(0, 99), max_tokens=1, min_tokens=5)
    check(replace(REQUEST, n=128, seed=2**64 - 1, logprobs=20, stop=stop, generated=generated, priority=-100))


@pytest.mark.parametrize(
    ("field", "sampling"),
    [
        *(("sampling.temperature", {"temperature": value}) for value in (-1.0, 2.01, NAN, INF)),
        *(("sampling.top_p", {"top_p": value}) for value in (0.0, 2.0, NAN, -INF)),
        *(("sampling.min_p", {"min_p": value}) for value in (-0.1, 1.1, NAN)),
        *(("sampling.repetition_penalty", {"repetition_penalty": value}) for value in (0.0, 2.1, NAN)),
        *(("sampling.presence_penalty", {"presence_penalty": value}) for value in (-2.1, 2.1, NAN)),
        *(("sampling.frequency_penalty", {"frequency_penalty": value}) for value in (-2.1, 2.1, INF)),
        ("sampling.top_k", {"top_k": -1}),
        ("sampling.logit_bias", {"logit_bias": {100: 1.0}}),
        ("sampling.logit_bias[7]", {"logit_bias": {7: 100.5}}),
        ("sampling.logit_bias[7]", {"logit_bias": {7: NAN}}),
    ],
)
def test_sampling_out_of_range(field: str, sampling: dict[str, Any]) -> None:
    assert list(fields_of(replace(REQUEST, sampling=SamplingParams(**sampling)))) == [field]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("prompt", {"prompt_token_ids": ()}),
        ("token_ids", {"prompt_token_ids": (1, 100)}),
        ("token_ids", {"prompt_token_ids": (-1,)}),
        ("stop.strings", {"stop": StopConditions(strings=("a",) * 17)}),
        ("stop.strings[1]", {"stop": StopConditions(strings=("a", ""))}),
        ("stop.token_ids", {"stop": StopConditions(token_ids=(100,))}),
        ("stop.max_tokens", {"stop": StopConditions(max_tokens=0)}),
        ("stop.min_tokens", {"stop": StopConditions(min_tokens=-1)}),
        ("logprobs.top", {"logprobs": 21}),
        ("n", {"n": 0}),
        ("n", {"n": 129}),
        ("seed", {"seed": 2**64}),
        ("priority", {"priority": 101}),
        ("priority", {"priority": -101}),
        ("priority", {"priority": -(2**31) + 1}),
        ("generated[0].choice", {"generated": (Continuation(choice=1, token_ids=()),)}),
        ("generated[1].choice", {"generated": (Continuation(choice=0, token_ids=()),) * 2}),
        ("generated", {"generated": (Continuation(choice=0, token_ids=(7,), finished=True),)}),
        ("generated[0].token_ids", {"generated": (Continuation(choice=0, token_ids=(100,)),)}),
    ],
)
def test_other_fields_out_of_range(field: str, change: dict[str, Any]) -> None:
    assert list(fields_of(replace(REQUEST, **change))) == [field]


def test_all_violations_come_in_one_error() -> None:
    bad = replace(REQUEST, sampling=SamplingParams(temperature=-1, top_p=2), n=0, logprobs=21)
    assert list(fields_of(bad)) == ["sampling.temperature", "sampling.top_p", "logprobs.top", "n"]
    assert fields_of(bad)["sampling.temperature"] == "must be in [0, 2], got -1"


def test_prompt_must_leave_room_for_one_token() -> None:
    check(REQUEST, context_length=4)
    with pytest.raises(ContextLengthExceeded) as caught:
        check(REQUEST, context_length=3)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert caught.value.metadata == {"prompt_tokens": "3", "context_length": "3"}
    assert "maximum context length is 3 tokens" in caught.value.message
    assert "your prompt has 3 tokens" in caught.value.message


def test_max_tokens_beyond_the_context_is_no_error() -> None:
    check(replace(REQUEST, stop=StopConditions(max_tokens=10_000)))
