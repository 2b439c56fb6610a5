"""Shared memory for tensors: what one side writes the other reads, and what is no longer needed goes back."""

import os

import numpy as np
import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.arena import GIVEN_BACK_BYTES, KEPT_BYTES, Arena
from infermesh_worker.executors.wire_tensors import allocate, check_fits, flatten, read, shared_bytes, spans_of, write

MIB = 1 << 20


def held_bytes(arena: Arena) -> int:
    return os.fstat(arena.fd).st_blocks * 512


def test_tensors_cross_unchanged_inline_and_shared() -> None:
    ours = Arena.create(4 * MIB)
    theirs = Arena.of_file(os.dup(ours.fd))
    arrays: dict[str, Array] = {
        "large": np.arange(100_000, dtype=np.int64).reshape(100, 1000),
        "turned": np.arange(60_000, dtype=np.float32).reshape(200, 300).T,
        "small": np.array(7, np.uint8),
        "empty": np.empty((0, 3), np.float16),
        "words": np.array([[b"a", b"\x00b\x00"]], object),
        "big endian": np.arange(3, dtype=">i4"),
    }
    flat = [flatten(name, array) for name, array in arrays.items()]
    spans = allocate(ours, shared_bytes(flat))
    assert spans is not None
    wired = write(ours, flat, spans)
    assert spans_of(wired) == spans
    assert len(spans) == ours.copies == 2
    got = read(theirs, wired)
    for name, array in arrays.items():
        assert np.array_equal(got[name], array)
        assert got[name].shape == array.shape


def test_spans_that_do_not_fit_together_are_not_taken() -> None:
    arena = Arena.create(MIB)
    assert allocate(arena, [600_000, 600_000]) is None
    assert arena.space.taken == 0
    with pytest.raises(ResourceExhausted, match="INFERMESH_TENSOR_MEMORY_BYTES"):
        check_fits(arena, [600_000, 600_000], "inputs")


def fill(arena: Arena, size: int) -> int:
    begin = arena.space.allocate(size)
    assert begin == 0
    arena.write(begin, np.ones(size, np.uint8))
    return begin


def test_memory_that_was_never_written_is_not_taken_and_much_of_it_is_given_back_bit_by_bit() -> None:
    arena = Arena.create(512 * MIB)
    assert held_bytes(arena) == 0
    size = KEPT_BYTES + GIVEN_BACK_BYTES + MIB
    arena.free(fill(arena, size))
    assert held_bytes(arena) == size - GIVEN_BACK_BYTES  # more at once would hold up the event loop
    for _ in range(2):
        arena.free(fill(arena, MIB))
        assert held_bytes(arena) == KEPT_BYTES


def test_what_is_freed_after_the_close_takes_nothing_from_the_next_file() -> None:
    size = KEPT_BYTES + MIB
    closed = Arena.create(128 * MIB)
    begin = fill(closed, size)
    fd = closed.fd
    closed.close()
    other = Arena.create(128 * MIB)
    assert other.fd == fd
    fill(other, size)
    closed.free(begin)
    assert held_bytes(other) == size
    assert other.view(0, size).all()


def test_nothing_outside_of_the_memory_is_read() -> None:
    arena = Arena.create(MIB)
    for begin, size in ((-64, 10), (0, MIB + 1), (MIB, 1), (0, -1)):
        with pytest.raises(ValueError, match="outside"):
            arena.view(begin, size)
