"""Ids of events: they say how far a listener has come with each router, and nothing that is no id does harm."""

import timeit

import pytest

from infermesh_router.journal.positions import mark_all, read_positions, write_positions


def test_what_is_written_is_read() -> None:
    assert read_positions(write_positions({"a1": 3, "b2": 0})) == {"a1": 3, "b2": 0}


@pytest.mark.parametrize("sent", ["", "7", "a-", "-7", "a-7b", "a-" + "9" * 16, "a-1," * 600, "A-1", "a-\u0663"])
def test_what_is_no_id_says_nothing(sent: str) -> None:
    assert read_positions(sent) == {}


def test_ids_tell_of_all_routers_and_only_they_are_changed() -> None:
    positions = {"a": 5}
    block = b'event: choice\nid: b-2\ndata: {"reason":"id: c-9"}\n\nevent: choice\nid: a-6\ndata: {}\n\n'
    assert mark_all(block, positions) == (
        b'event: choice\nid: a-5,b-2\ndata: {"reason":"id: c-9"}\n\nevent: choice\nid: b-2,a-6\ndata: {}\n\n'
    )
    assert positions == {"a": 6, "b": 2}


def test_an_id_without_an_event_moves_the_listener_on() -> None:
    positions = {"a": 5}
    assert mark_all(b"id: b-2\n\n", positions) == b"id: a-5,b-2\n\n"
    assert mark_all(b"event: lost\ndata: {}\n\nid: b-7\n\n", positions) == b"event: lost\ndata: {}\n\nid: a-5,b-7\n\n"


def test_the_data_of_large_blocks_is_not_searched_by_lines() -> None:
    """A snapshot of a large mesh is marked for each listener, twice a second; an expression takes 0.4 ms."""
    data = b'{"endpoints":"' + b"id: a-1 " * 10_000 + b'"}'
    block = b"event: snapshot\nid: a-6\ndata: " + data + b"\n\n"
    positions = {"b": 1}
    quickest_s = min(timeit.repeat(lambda: mark_all(block, positions), number=1, repeat=50))
    assert mark_all(block, positions) == block.replace(b"id: a-6\n", b"id: b-1,a-6\n")
    assert quickest_s < 2e-4


def test_routers_that_are_long_gone_are_forgotten() -> None:
    positions: dict[str, int] = {}
    for number in range(100):
        mark_all(b"id: r%d-1\n" % number, positions)
    assert len(positions) == 16
    assert "r99" in positions
