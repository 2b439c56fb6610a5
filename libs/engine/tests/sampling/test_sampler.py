"""Tokens are chosen with the right probabilities, filters, penalties and log probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.runners.runner import CANDIDATES
from infermesh_engine.sampling.broken import BrokenLogitsError
from infermesh_engine.sampling.sampler import SampledToken, sample
from infermesh_engine.sampling.sampler_state import SamplerState


class RowLogits:
    """Logits made from whole rows, as a runner makes them; counts the rows that were read."""

    def __init__(self, rows: Any, states: Sequence[SamplerState]) -> None:
        self.rows = np.asarray(rows, dtype=np.float32)
        order = np.argsort(-self.rows, axis=1, kind="stable")[:, :CANDIDATES]
        self.top_ids = order.astype(np.int32)
        self.top_logits = np.take_along_axis(self.rows, order, axis=1)
        self.logsumexp = _logsumexp(self.rows, np.ones(len(self.rows)))
        self.scaled_logsumexp = _logsumexp(self.rows, np.array([state.inverse_temperature for state in states]))
        self.reads = 0

    def row(self, index: int) -> NDArray[np.float32]:
        self.reads += 1
        view: NDArray[np.float32] = self.rows[index]
        view.flags.writeable = False
        return view


def _logsumexp(rows: NDArray[np.float32], scales: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled = rows.astype(np.float64) * scales[:, None]
    largest = scaled.max(axis=1)
    result: NDArray[np.float32] = (np.log(np.exp(scaled - largest[:, None]).sum(axis=1)) + largest).astype(np.float32)
    return result


def make_state(vocab_size: int = 8, **options: Any) -> SamplerState:
    names: dict[str, Any] = {
        "seed": 1,
        "choice": 0,
        "prompt_token_ids": (),
        "logprobs": None,
        "min_tokens": 0,
        "grammar": None,
    }
    given_names = {name: options.pop(name) for name in [*names, "banned_until_min_tokens"] if name in options}
    fixed = {"banned_until_min_tokens": frozenset()} | names | given_names
    return SamplerState(SamplingParams(**options), vocab_size=vocab_size, **fixed)


def sampled_tokens(rows: Any, states: Sequence[SamplerState]) -> list[SampledToken]:
    """The tokens of `rows`, none of which fails."""
    return tokens_of(RowLogits(rows, states), states)


def tokens_of(logits: RowLogits, states: Sequence[SamplerState]) -> list[SampledToken]:
    tokens = sample(logits, states)
    assert not any(isinstance(token, Exception) for token in tokens), tokens
    return [token for token in tokens if isinstance(token, SampledToken)]


def one(row: Sequence[float], **options: Any) -> SampledToken:
    (sampled,) = sampled_tokens([row], [make_state(vocab_size=len(row), **options)])
    return sampled


def frequencies(row: Sequence[float], draws: int = 4000, **options: Any) -> NDArray[np.float64]:
    """How often each token is drawn by as many seeds."""
    states = [make_state(vocab_size=len(row), seed=seed, **options) for seed in range(draws)]
    sampled = sampled_tokens([row] * draws, states)
    return np.bincount([token.token_id for token in sampled], minlength=len(row)) / draws


def softmax(row: Sequence[float], temperature: float = 1.0) -> NDArray[np.float64]:
    weights = np.exp(np.array(row) / temperature)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


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


def test_whole_rows_are_read_only_where_candidates_do_not_decide() -> None:
    row = (-1.5 * np.log(np.arange(1, 3001))).tolist()
    cheap: list[dict[str, Any]] = [
        {"temperature": 0},
        {"top_k": 64},
        {"top_p": 0.8},
        {"min_p": 0.01},
        {"top_p": 0.8, "min_p": 1e-9},
    ]
    states = [make_state(vocab_size=3000, seed=seed, **options) for seed in range(20) for options in cheap]
    logits = RowLogits([row] * len(states), states)
    sample(logits, states)
    assert logits.reads == 0
    states = [make_state(vocab_size=3000, top_p=0.99), make_state(vocab_size=3000, top_k=65, top_p=0.5)]
    logits = RowLogits([row] * 2, states)
    sample(logits, states)
    assert logits.reads == 2


@pytest.mark.parametrize("temperature", [1e-4, 1e-3, 0.01])
def test_tiny_temperatures_are_as_good_as_greedy(temperature: float) -> None:
    row = np.random.default_rng(0).normal(size=2000).tolist()
    row[700] = 6.0
    states = [make_state(vocab_size=2000, seed=seed, temperature=temperature) for seed in range(200)]
    logits = RowLogits([row] * 200, states)
    assert {token.token_id for token in tokens_of(logits, states)} == {700}
    assert logits.reads == 0


parameters = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.01, 0.3, 0.8, 1.0, 1.5, 2.0]),
        "top_k": st.sampled_from([1, 5, 64, 65, 500, 5000]),
        "top_p": st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.999, 1.0]),
        "min_p": st.sampled_from([0.0, 1e-6, 0.01, 0.1, 1.0]),
        "seed": st.integers(0, 2**64 - 1),
    },
)
shapes = st.tuples(st.sampled_from([1, 3, 64, 65, 300, 3000]), st.sampled_from([0.0, 0.3, 2.0, 8.0]), st.booleans())


@settings(max_examples=300, deadline=None)
@given(shape=shapes, options=parameters, noise=st.integers(0, 2**32))
def test_candidates_and_whole_rows_choose_alike(
    shape: tuple[int, float, bool], options: dict[str, Any], noise: int
) -> None:
    vocab_size, spread, coarse = shape
    row = (np.random.default_rng(noise).normal(size=vocab_size) * spread).astype(np.float32)
    if coarse:
        row = np.round(row)  # ties in plenty
    state = make_state(vocab_size=vocab_size, **options)
    (sampled,) = sampled_tokens([row], [state])
    assert sampled.token_id == _reference(row, state)


def _reference(row: NDArray[np.float32], state: SamplerState) -> int:
    """The definition, over the whole vocabulary, with the model's float32 sum as the runner gives it."""
    order = np.lexsort((np.arange(len(row)), -row))
    if state.greedy:
        return int(order[0])
    scale, top_k, top_p, min_p = state.filters
    weights = np.exp((row[order].astype(np.float64) - float(row.max())) * scale)
    sums = np.cumsum(weights)
    total = max(
        float(np.exp(float(_logsumexp(row[None], np.array([scale]))[0]) - float(row.max()) * scale)), sums[63:64].sum()
    )
    if len(row) <= CANDIDATES or weights[63] * (len(row) - 64) <= 1e-7 * sums[63]:
        total = float(weights[:64].sum())
    kept = len(row)
    mass = total
    if top_k:
        kept = min(int(top_k), len(row))
        mass = sums[kept - 1]
    if top_p < 1:
        kept = min(kept, int((sums < top_p * mass).sum()) + 1)
    kept = max(1, min(kept, int((weights >= min_p).sum())))
    target = state.uniform * (sums[kept - 1] if kept < len(row) else total)
    if target >= sums[-1]:
        target = state.uniform * sums[-1]
    return int(order[min(int((sums <= target).sum()), kept - 1)])


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
