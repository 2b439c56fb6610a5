"""Ids of events: they say how far a listener has come with each router, and nothing that is no id does harm."""

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


def test_routers_that_are_long_gone_are_forgotten() -> None:
    positions: dict[str, int] = {}
    for number in range(100):
        mark_all(b"id: r%d-1\n" % number, positions)
    assert len(positions) == 16
    assert "r99" in positions
