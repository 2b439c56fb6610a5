"""Outputs keep to the tokens that a request allows, and do not contain the texts that it forbids."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from infermesh_engine.requests.request import GenerationRequest, OutputFormat, SamplingParams, StopConditions

EOS = 256
MAKERS = ["make_bench", "make_ahead"]


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    maker: Callable[..., Any] = request.getfixturevalue(request.param)
    return maker


def ask(tokens: int = 24, output_format: OutputFormat | None = None, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id="a",
        prompt_token_ids=(1, 2, 3),
        seed=3,
        stop=StopConditions(max_tokens=tokens),
        sampling=SamplingParams(**sampling),
        output_format=output_format,
        logprobs=0,
    )


def tokens_of(make: Callable[..., Any], request: GenerationRequest) -> tuple[int, ...]:
    choice = make().finish(request)["a", 0]
    tokens: tuple[int, ...] = choice.token_ids
    return tokens


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_allowed_tokens_are_sampled(make: Callable[..., Any], temperature: float) -> None:
    tokens = tokens_of(make, ask(allowed_token_ids=(7, 40, 200), temperature=temperature))
    assert len(tokens) == 24
    assert set(tokens) <= {7, 40, 200}
    assert temperature == 0 or len(set(tokens)) > 1


def test_a_bad_word_does_not_occur_and_its_parts_do(make: Callable[..., Any]) -> None:
    plain = tokens_of(make, ask(temperature=0))
    pair = plain[4:6]
    tokens = tokens_of(make, ask(temperature=0, bad_words=(pair,)))
    assert tokens[:5] == plain[:5]
    assert pair not in list(pairwise(tokens))
    single = tokens_of(make, ask(temperature=0, bad_words=((plain[0],),)))
    assert plain[0] not in single


def test_a_grammar_counts_where_nothing_else_is_left(make: Callable[..., Any]) -> None:
    wanted = OutputFormat(kind="regex", spec="[ab]{5}")
    free = tokens_of(make, ask(output_format=wanted))
    a, b = sorted({*free})[:2] if len({*free}) > 1 else (free[0], free[0])
    only_one = tokens_of(make, ask(output_format=wanted, allowed_token_ids=(a,)))
    assert set(only_one) <= {a, EOS}
    neither = tokens_of(make, ask(output_format=wanted, bad_words=((a,), (b,))))
    assert len(neither) >= 5
