"""The best candidates decide as the whole row would, which is read only where they cannot."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infermesh_engine.runners.runner import CANDIDATES
from infermesh_engine.sampling.sampler import sample
from infermesh_engine.sampling.sampler_state import SamplerState
from libs.engine.tests.sampling.rows import RowLogits, logsumexp, make_state, sampled_tokens, tokens_of


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
        float(np.exp(float(logsumexp(row[None], np.array([scale]))[0]) - float(row.max()) * scale)), sums[63:64].sum()
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
