"""Tokens are chosen with the right probabilities, filters, penalties and log probabilities."""

from typing import Any

import numpy as np
import pytest

from infermesh_engine.sampling.broken import BrokenLogitsError
from infermesh_engine.sampling.sampler import SampledToken, sample
from infermesh_engine.sampling.sampler_state import SamplerState
from libs.engine.tests.sampling.rows import RowLogits, frequencies, make_state, one, sampled_tokens, softmax


def test_greedy_takes_the_largest_and_of_equals_the_smaller_id() -> None:
    assert one([0, 3, 1, 3], temperature=0).token_id == 1
    assert one([0, 3, 1, 3], temperature=1e-9).token_id == 1
    assert one([0, 3, 1, 3], temperature=0, logit_bias={0: 0.0}).token_id == 1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probabilities_say(temperature: float) -> None:
    row = [0.0, 1.0, 2.0, -1.0, 1.0]
    assert np.abs(frequencies(row, temperature=temperature) - softmax(row, temperature)).max() < 0.03


def test_filters_keep_what_they_say_in_their_order() -> None:
    row = np.log([0.4, 0.3, 0.2, 0.1]).tolist()
    assert np.flatnonzero(frequencies(row, 500, top_k=2)).tolist() == [0, 1]
    assert np.flatnonzero(frequencies(row, 500, top_p=0.69)).tolist() == [0, 1]
    assert np.flatnonzero(frequencies(row, 500, top_p=0.71)).tolist() == [0, 1, 2]
    assert np.flatnonzero(frequencies(row, 500, min_p=0.6)).tolist() == [0, 1]
    assert np.flatnonzero(frequencies(row, 500, top_p=1e-9)).tolist() == [0]
    assert np.flatnonzero(frequencies(row, 500, min_p=1.0)).tolist() == [0]
    # 0.4 of the 0.7 that top_k keeps is a share of 0.57
    assert np.flatnonzero(frequencies(row, 500, top_k=2, top_p=0.57)).tolist() == [0]
    assert np.abs(frequencies(row, top_k=2) - [4 / 7, 3 / 7, 0, 0]).max() < 0.03


def test_order_is_descending_probability_with_ties_by_smaller_id() -> None:
    """The uniform number of a position is looked up in the cumulative distribution in that order."""
    row = [1.0, 2.0, 1.0, 2.0]
    order = [1, 3, 0, 2]
    edges = np.cumsum(softmax(row)[order])
    for seed in range(50):
        state = make_state(vocab_size=4, seed=seed)
        expected = order[int(np.searchsorted(edges, state.uniform, side="right"))]
        assert sampled_tokens([row], [state])[0].token_id == expected


def test_penalties_and_bias_change_logits_as_the_contract_says() -> None:
    state = make_state(
        vocab_size=6,
        prompt_token_ids=(0, 1, 1),
        repetition_penalty=2.0,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias={4: 3.0, 2: -100.0},
    )
    for token_id in (1, 3, 3, 4):
        state.observe(token_id)
    row = np.array([2.0, -2.0, 1.0, 4.0, 1.0, 1.0], dtype=np.float32)
    expected = [1.0, -4.0 - 0.75, -99.0, 2.0 - 1.0, 2.0 - 0.75, 1.0]
    assert state.adjusted(row).tolist() == expected
    assert row[0] == 2, "the runner's row is not ours to change"


def test_penalties_count_more_tokens_than_they_first_have_room_for() -> None:
    state = make_state(vocab_size=500, repetition_penalty=2.0, frequency_penalty=1.0, prompt_token_ids=range(70))
    for token_id in [*range(60, 300), 60]:
        state.observe(token_id)
    expected = np.ones(500, dtype=np.float32)
    expected[:300] /= 2
    expected[60:300] -= 1
    expected[60] -= 1
    assert state.adjusted(np.ones(500, dtype=np.float32)).tolist() == expected.tolist()


def test_banned_tokens_come_back_after_min_tokens() -> None:
    state = make_state(vocab_size=3, temperature=0, banned_until_min_tokens=frozenset({0, 2, 70_000}), min_tokens=2)
    chosen = []
    for _ in range(4):
        (sampled,) = sampled_tokens([[5, 1, 9]], [state])
        chosen.append(sampled.token_id)
        state.observe(sampled.token_id)
    assert chosen == [1, 1, 2, 2]
    assert not state.needs_row, "the candidates do again"


def test_ban_of_everything_is_no_ban() -> None:
    assert one([1, 2], banned_until_min_tokens=frozenset({0, 1}), min_tokens=9, temperature=0).token_id == 1


def test_logprobs_are_the_models_own() -> None:
    row = [1.0, 4.0, 2.0]
    expected = np.log(softmax(row))
    sampled = one(row, temperature=0, logprobs=2, logit_bias={0: 50.0})
    assert sampled.token_id == 0
    assert sampled.logprob == pytest.approx(expected[0], abs=1e-6)
    assert [token_id for token_id, _ in sampled.top] == [1, 2]
    assert [value for _, value in sampled.top] == pytest.approx([expected[1], expected[2]], abs=1e-6)
    assert one(row, temperature=0.1, logprobs=0).top == ()
    assert one(row, temperature=0).logprob is None


def test_logprob_of_a_token_outside_the_candidates() -> None:
    row = np.linspace(5, 0, 1000)
    sampled = one(row.tolist(), temperature=0, logprobs=20, logit_bias={999: 100.0})
    assert sampled.token_id == 999
    assert sampled.logprob == pytest.approx(float(np.log(softmax(row.tolist())[999])), abs=1e-5)
    assert len(sampled.top) == 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # from the sums of the reference, over such rows
def test_a_row_that_is_not_finite_gives_an_error_in_place_of_a_token(value: float) -> None:
    states = [make_state(**options) for options in ({}, {"repetition_penalty": 1.5}, {"temperature": 0}, {})]
    sampled = sample(RowLogits([[value] * 8] * 3 + [[1.0] * 8], states), states)
    assert [type(token) for token in sampled] == [BrokenLogitsError] * 3 + [SampledToken]


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("repetition_penalty", [1e-7, 1e-30, 1e-45])
def test_tiny_penalties_make_huge_logits_and_no_error(repetition_penalty: float) -> None:
    row = [0.5, 2.0, -1.0, 0.25]
    assert one(row, repetition_penalty=repetition_penalty, prompt_token_ids=(3,)).token_id == 3


def test_a_sequence_draws_the_same_alone_in_a_batch_and_continued() -> None:
    rows = np.random.default_rng(3).normal(size=(40, 5, 400)).astype(np.float32) * 2

    def run(states: list[SamplerState], begin: int) -> list[list[int]]:
        chosen = []
        for step in range(begin, 40):
            tokens = [token.token_id for token in sampled_tokens(rows[step, : len(states)], states)]
            for state, token_id in zip(states, tokens, strict=True):
                state.observe(token_id)
            chosen.append(tokens)
        return [list(column) for column in zip(*chosen, strict=True)]

    options: list[dict[str, Any]] = [
        {},
        {"top_p": 0.8},
        {"temperature": 0},
        {"frequency_penalty": 1.0},
        {"top_k": 3, "temperature": 1.7},
    ]

    def fresh() -> list[SamplerState]:
        return [make_state(400, seed=i, **option) for i, option in enumerate(options)]

    together = run(fresh(), 0)
    assert run(fresh()[:1], 0)[0] == together[0]
    continued = fresh()
    for state, tokens in zip(continued, together, strict=True):
        for token_id in tokens[:17]:
            state.observe(token_id)
    assert run(continued, 17) == [tokens[17:] for tokens in together]
