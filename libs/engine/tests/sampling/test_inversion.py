"""Tokens drawn from sorted weights, from the first of them or from the whole row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_engine.sampling import full_row
from infermesh_engine.sampling.inversion import DrawParams, invert, total_weights

filters = st.tuples(
    st.sampled_from([0.01, 0.3, 0.8, 1.0, 1.5, 2.0]),
    st.sampled_from([0, 1, 5, 64, 65, 500, 5000]),
    st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.999, 1.0]),
    st.sampled_from([0.0, 1e-6, 0.01, 0.1, 1.0]),
)


@settings(max_examples=100, deadline=None)
@given(filters=filters, noise=st.integers(0, 2**32), uniform=st.floats(0, 1, exclude_max=True))
def test_looking_at_the_row_at_once_or_after_the_candidates_is_the_same(
    filters: tuple[float, int, float, float], noise: int, uniform: float
) -> None:
    """The sum computed here stands for the one that a runner gives with its logits."""
    row = (np.random.default_rng(noise).normal(size=2000) * 2).astype(np.float32)
    temperature, top_k, top_p, min_p = filters
    scale = float(np.float32(1 / temperature))
    draws = DrawParams(*(np.array([value]) for value in (uniform, top_k, top_p, min_p)))
    total = float(np.exp((row - row.max()).astype(np.float64) * scale).sum())
    near = full_row.choose(row, scale, draws, total=total)
    assert near == full_row.choose(row, scale, draws, total=total, beyond=float(np.sort(row)[-64]))
    assert near == full_row.choose(row, scale, draws, total=total, beyond=float(row.min()))


def test_a_sum_that_is_coarser_than_the_weights_gives_the_last_token_nothing() -> None:
    """The model's float32 sum may be too large by rounding; the last token must not get the difference."""
    weights, excess = np.array([[1.0, 0.5, 1e-12]]), np.array([np.log(1.65)])
    draws = DrawParams(top_k=np.zeros(1), top_p=np.ones(1), min_p=np.zeros(1), uniforms=np.array([0.95]))
    columns, decided = invert(weights, np.exp(excess), draws, complete=True)
    assert (columns.tolist(), decided.tolist()) == ([1], [True])
    assert total_weights(weights, excess, vocab_size=1000).tolist() == [weights.sum()]
    assert total_weights(weights, excess, vocab_size=1 << 40).tolist() == [pytest.approx(1.65)]
