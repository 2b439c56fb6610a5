"""Widening pads single rows with tokens of no sequence, and leaves larger batches alone."""

import numpy as np
import pytest

from infermesh_engine.runners.runner import Batch
from infermesh_engine.runners.widening import widened


def batch(tokens: int, rows: int) -> Batch:
    """One sequence of `tokens` new tokens after 40, on two blocks."""
    return Batch(
        token_ids=np.arange(5, 5 + tokens, dtype=np.int64),
        positions=np.arange(40, 40 + tokens, dtype=np.int64),
        past_lens=np.array([40], np.int32),
        begins=np.array([0, tokens], np.int32),
        blocks=np.array([7, 3], np.int32),
        block_begins=np.array([0, 2], np.int32),
        max_context_tokens=40 + tokens,
        rows=np.arange(rows, dtype=np.int32),
        inverse_temperatures=np.full(rows, 2.0, np.float32),
    )


def test_a_token_alone_gets_a_sequence_on_nobodys_block_beside_it() -> None:
    wide = widened(batch(1, 1), scratch_block=99)
    assert wide.token_ids.tolist() == [5, 5]
    assert wide.positions.tolist() == [40, 0]
    assert wide.past_lens.tolist() == [40, 0]
    assert wide.begins.tolist() == [0, 1, 2]
    assert wide.blocks.tolist() == [7, 3, 99]
    assert wide.block_begins.tolist() == [0, 2, 3]
    assert wide.rows.tolist() == [0, 0]
    assert wide.inverse_temperatures.tolist() == [2.0, 2.0]


def test_a_single_row_is_asked_for_twice() -> None:
    wide = widened(batch(3, 1), scratch_block=99)
    assert wide.rows.tolist() == [0, 0]
    assert wide.token_ids.tolist() == [5, 6, 7]
    assert wide.blocks.tolist() == [7, 3]


@pytest.mark.parametrize(("tokens", "rows"), [(2, 2), (3, 0)])
def test_what_has_no_single_row_stays(tokens: int, rows: int) -> None:
    given = batch(tokens, rows)
    assert widened(given, scratch_block=99) is given
