"""A draw from a whole row ranks only as many tokens as it needs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infermesh_engine.sampling import full_row
from infermesh_engine.sampling.inversion import DrawParams, invert

VOCAB = 3000


def params(uniform: float, top_k: int, top_p: float, min_p: float = 0.0) -> DrawParams:
    uniforms, kept, share, least = np.array([[uniform], [top_k], [top_p], [min_p]], dtype=np.float64)
    return DrawParams(uniforms=uniforms, top_k=kept, top_p=share, min_p=least)


def ranked_whole(row: NDArray[np.float32], scale: float, draws: DrawParams) -> int:
    """The definition: all tokens in order, ties by smaller id."""
    order = np.lexsort((np.arange(len(row)), -row))
    weights = np.exp((row[order].astype(np.float64) - float(row.max())) * scale)[None, :]
    index, _ = invert(weights, weights.sum(axis=1), draws, complete=True)
    return int(order[index[0]])


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_a_draw_of_top_k_and_top_p_ranks_no_more_tokens_than_top_k_keeps(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = (np.random.default_rng(0).permutation(VOCAB) * spread).astype(np.float32)
    sizes: list[int] = []
    rank = full_row._rank

    def counting(row: NDArray[np.float32], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        sizes.append(len(ids))
        return rank(row, ids)

    monkeypatch.setattr(full_row, "_rank", counting)
    draws = params(0.7, 20, 0.8)
    assert full_row.choose(row, 1.4, draws) == ranked_whole(row, 1.4, draws)
    assert sizes == [20]


@settings(max_examples=150, deadline=None)
@given(
    noise=st.integers(0, 99),
    spread=st.sampled_from([0.3, 2.0, 8.0]),
    coarse=st.booleans(),
    excluded=st.sampled_from([0.0, 0.5, 0.995]),
    uniform=st.floats(0, 1, exclude_max=True),
    top_k=st.sampled_from([1, 5, 64, 500, 2999]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_the_tokens_that_top_k_keeps_decide_as_all_do(  # noqa: PLR0917 - what hypothesis draws
    noise: int, spread: float, coarse: bool, excluded: float, uniform: float, top_k: int, top_p: float, min_p: float
) -> None:
    rng = np.random.default_rng(noise)
    row = (rng.normal(size=VOCAB) * spread).astype(np.float32)
    row = np.round(row) if coarse else row  # ties in plenty
    row[rng.random(VOCAB) < excluded] = -np.inf
    row[7] = 1.0
    draws = params(uniform, top_k, top_p, min_p)
    assert full_row.choose(row, 1.25, draws) == ranked_whole(row, 1.25, draws)
