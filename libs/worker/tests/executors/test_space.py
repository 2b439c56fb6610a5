"""Spans of shared memory: they never overlap, and all of the memory is one span again when they are freed."""

from hypothesis import given
from hypothesis import strategies as st

from infermesh_worker.executors.space import ALIGNMENT_BYTES, Space

SIZE = 40 * ALIGNMENT_BYTES


@given(st.lists(st.one_of(st.integers(0, 12 * ALIGNMENT_BYTES), st.sampled_from([-1, -2, -3])), max_size=60))
def test_spans_do_not_overlap(steps: list[int]) -> None:
    space = Space(SIZE)
    taken: dict[int, int] = {}
    for step in steps:
        if step < 0 and taken:
            begin = sorted(taken)[step % len(taken)]
            del taken[begin]
            space.free(begin)
        elif step >= 0 and (found := space.allocate(step)) is not None:
            begin = found
            assert begin % ALIGNMENT_BYTES == 0
            assert begin + step <= SIZE
            assert all(begin >= other + size or begin + max(step, 1) <= other for other, size in taken.items())
            taken[begin] = max(step, 1)
    for begin in taken:
        space.free(begin)
    assert space.taken == 0
    assert space.allocate(SIZE) == 0


def test_what_does_not_fit_is_not_allocated() -> None:
    space = Space(SIZE)
    assert space.allocate(SIZE) == 0
    assert space.allocate(1) is None
