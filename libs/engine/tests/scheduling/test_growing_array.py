"""An array that grows reads like a list."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infermesh_engine.scheduling.growing_array import GrowingArray


@given(st.lists(st.integers(0, 2**31 - 1)), st.lists(st.integers(0, 2**31 - 1)))
def test_growing_array_reads_like_a_list(start: list[int], appended: list[int]) -> None:
    array = GrowingArray(np.array(start, dtype=np.int32))
    for value in appended:
        array.append(value)
    assert array.view.tolist() == start + appended
    assert len(array) == len(start + appended)
    assert array.view.dtype == np.int32
    array.clear()
    assert len(array) == len(array.view) == 0
