"""Candidates and masks decide as the whole masked row would, which is read only where they cannot."""

from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infermesh_engine.sampling import full_row
from infermesh_engine.sampling.inversion import DrawParams, invert
from infermesh_engine.sampling.sampler import sample
from infermesh_engine.sampling.sampler_state import SamplerState, draw_params
from libs.engine.tests.sampling.rows import RowLogits, make_state, sampled_tokens, tokens_of

VOCAB = 3000


class Allows:
    """A rule that allows some tokens."""

    is_finished = False

    def __init__(self, allowed: NDArray[np.bool_]) -> None:
        self._allowed = allowed

    def allowed_bits(self) -> NDArray[np.uint8]:
        return np.packbits(self._allowed, bitorder="little")

    def mask(self, row: NDArray[np.float32]) -> None:
        row[~self._allowed] = -np.inf

    def consume(self, token_id: int) -> None:
        pass

    def fork(self) -> Self:
        return self


class Fails(Allows):
    """A rule whose masks cannot be computed."""

    def allowed_bits(self) -> NDArray[np.uint8]:
        raise RuntimeError("no mask")


def whole(row: NDArray[np.float32], state: SamplerState) -> int:
    """The token that the whole masked row gives."""
    adjusted = state.adjusted(row)
    if state.greedy:
        return int(adjusted.argmax())
    return full_row.choose(adjusted, state.inverse_temperature, draw_params([state])[1])


def only(*token_ids: int, vocab: int = VOCAB) -> NDArray[np.bool_]:
    allowed = np.zeros(vocab, dtype=np.bool_)
    allowed[list(token_ids)] = True
    return allowed


def peaked(vocab: int = VOCAB) -> NDArray[np.float32]:
    """Token i is the (i + 1)th most probable one, and the first 64 have nearly all of the probability."""
    return -np.arange(vocab, dtype=np.float32)


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": 1.0}, {"top_p": 0.9}, {"top_k": 5}, {"top_k": 40, "top_p": 0.9}]
)
def test_whole_rows_are_read_only_where_candidates_do_not_decide(options: dict[str, Any]) -> None:
    odd, few, none = np.arange(VOCAB) % 2 == 1, only(3, 9, 60), only(500, 501)
    masks = [odd, few, none]
    states = [make_state(vocab_size=VOCAB, seed=7, grammar=Allows(mask), **options) for mask in masks]
    logits = RowLogits([peaked()] * 3, states)
    tokens = [token.token_id for token in tokens_of(logits, states)]
    assert logits.reads == 1  # the last one's: no candidate of it is allowed
    assert tokens == [whole(peaked(), state) for state in states]
    assert all(mask[token] for mask, token in zip(masks, tokens, strict=True))


def test_other_changes_of_the_logits_count_beside_the_mask() -> None:
    states = [
        make_state(vocab_size=VOCAB, temperature=0, grammar=Allows(only(4, 5, 6)), logit_bias={5: 9.0}),
        make_state(
            vocab_size=VOCAB,
            temperature=0,
            grammar=Allows(only(4, 5, 6)),
            banned_until_min_tokens=frozenset({4}),
            min_tokens=3,
        ),
    ]
    assert [token.token_id for token in sampled_tokens([peaked()] * 2, states)] == [5, 5]


def test_a_mask_that_cannot_be_computed_fails_its_own_row_only() -> None:
    states = [make_state(vocab_size=VOCAB, temperature=0, grammar=rule(only(8))) for rule in (Fails, Allows)]
    failed, sampled = sample(RowLogits([peaked()] * 2, states), states)
    assert isinstance(failed, RuntimeError)
    assert not isinstance(sampled, Exception)
    assert sampled.token_id == 8


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
shapes = st.tuples(st.sampled_from([1, 3, 64, 65, 300, VOCAB]), st.sampled_from([0.0, 0.3, 2.0, 8.0]), st.booleans())


@settings(max_examples=150, deadline=None)
@given(shape=shapes, share=st.sampled_from([0.001, 0.02, 0.5, 0.98, 1.0]), options=parameters, noise=st.integers(0, 99))
def test_masked_candidates_and_whole_rows_choose_alike(
    shape: tuple[int, float, bool], share: float, options: dict[str, Any], noise: int
) -> None:
    vocab, spread, coarse = shape
    rng = np.random.default_rng(noise)
    rows = (rng.normal(size=(4, vocab)) * spread).astype(np.float32)
    rows = np.round(rows) if coarse else rows  # ties in plenty
    masks = rng.random((4, vocab)) < share
    masks[:, rng.integers(vocab)] = True
    states = [make_state(vocab_size=vocab, grammar=Allows(mask), **options) for mask in masks]
    tokens = [token.token_id for token in sampled_tokens(rows, states)]
    assert tokens == [whole(row, state) for row, state in zip(rows, states, strict=True)]


def test_excluded_candidates_that_are_far_above_all_allowed_ones_change_no_draw() -> None:
    row = np.zeros(VOCAB, np.float32)
    row[:10] = 10.0  # 1000 above the others at this temperature: e^1000 overflows
    rule = Allows(row == 0)
    states = [make_state(vocab_size=VOCAB, temperature=0.01, seed=seed, grammar=rule) for seed in range(20)]
    tokens = [token.token_id for token in sampled_tokens([row] * 20, states)]
    assert tokens == [whole(row, state) for state in states]
    assert len(set(tokens)) > 15


def test_columns_that_are_no_tokens_change_no_draw() -> None:
    rng = np.random.default_rng(0)
    for width in range(1, 6):
        weights = np.sort(rng.random((1, width)))[:, ::-1]
        weights /= weights[:, :1]
        padded = np.concatenate([weights, np.zeros((1, 6 - width))], axis=1)
        for top_k, top_p, min_p, uniform in rng.random((200, 4)):
            draws = DrawParams(
                uniforms=np.array([uniform]),
                top_k=np.array([int(top_k * 8)], dtype=np.float64),
                top_p=np.array([min(1.0, top_p * 1.5)]),
                min_p=np.array([max(0.0, min_p - 0.5)]),
            )
            totals = weights.sum(axis=1) * 1.1
            plain = invert(weights, totals, draws, complete=False)
            wide = invert(padded, totals, draws, complete=False, widths=np.array([width]))
            assert (plain[0] == wide[0]).all()
            assert (plain[1] == wide[1]).all()
