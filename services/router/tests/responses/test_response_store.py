"""The file that keeps responses: for their own key, within bounds, shared with other routers."""

import asyncio
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infermesh_router.config.response_options import response_store
from infermesh_router.config.settings import RouterSettings
from infermesh_router.responses.store.kept import KeptItem, KeptResponse, StoreBounds
from infermesh_router.responses.store.response_file import ResponseFile
from infermesh_router.responses.store.response_store import ResponseStore
from infermesh_runtime.errors import InvalidArgument, NotFound, Unavailable

LARGE = StoreBounds(max_bytes=1 << 20, max_rows=100, max_age_s=1000)


class Clock:
    """A clock that tests move; each look at it takes a millisecond."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def kept(name: str, previous: str | None = None, *, owner: str = "", size: int = 10) -> KeptResponse:
    said, answered = KeptItem(id=f"in_{name}", body=b"i" + name.encode()), KeptItem(id=f"out_{name}", body=b"o")
    return KeptResponse(id=name, owner=owner, previous=previous, body=b"x" * size, input=(said,), output=(answered,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "responses.sqlite"


def test_only_its_owner_finds_a_response(path: Path) -> None:
    file = ResponseFile(path, LARGE)
    file.put(kept("a", owner="me"))
    assert file.get("me", "a") == b"x" * 10
    assert file.item("me", "in_a") == b"ia"
    for ask in (file.get, file.context, file.delete):
        with pytest.raises(NotFound):
            ask("you", "a")
    with pytest.raises(NotFound):
        file.item("you", "in_a")
    file.delete("me", "a")
    with pytest.raises(NotFound):
        file.item("me", "in_a")


def test_only_this_user_can_read_the_file(path: Path) -> None:
    ResponseFile(path, LARGE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_chain_is_all_items_in_order(path: Path) -> None:
    file = ResponseFile(path, LARGE)
    for name, previous in (("a", None), ("b", "a"), ("c", "b")):
        file.put(kept(name, previous))
    assert file.context("", "c") == (b"ia", b"o", b"ib", b"o", b"ic", b"o")
    page = file.input_items("", "c", after="", limit=2, newest_first=True)
    assert ([item.id for item in page.items], page.has_more) == (["in_c", "out_b"], True)
    page = file.input_items("", "c", after="in_b", limit=10, newest_first=True)
    assert ([item.body for item in page.items], page.has_more) == ([b"o", b"ia"], False)
    with pytest.raises(InvalidArgument):
        file.input_items("", "c", after="nobody", limit=10, newest_first=True)
    file.delete("", "a")
    with pytest.raises(NotFound, match="'a', which is no longer kept"):
        file.context("", "c")


def test_what_was_used_least_recently_goes_first(path: Path) -> None:
    file = ResponseFile(path, replace(LARGE, max_rows=2), clock=Clock())
    file.put(kept("a"))
    file.put(kept("b"))
    file.context("", "a")
    file.put(kept("c"))
    assert file.get("", "a")
    with pytest.raises(NotFound):
        file.get("", "b")


def test_bytes_are_bounded(path: Path) -> None:
    file = ResponseFile(path, replace(LARGE, max_bytes=1000), clock=Clock())
    for name in "abc":
        file.put(kept(name, size=400))
    with pytest.raises(NotFound):
        file.get("", "a")
    assert file.get("", "c")
    file.put(kept("d", size=2000))  # not kept, and makes no room for itself
    assert file.get("", "c")
    with pytest.raises(NotFound):
        file.get("", "d")


def test_age_is_bounded(path: Path) -> None:
    clock = Clock()
    file = ResponseFile(path, LARGE, clock=clock)
    file.put(kept("a"))
    clock.now_s += 1001
    with pytest.raises(NotFound):
        file.get("", "a")
    file.put(kept("b"))
    (count,) = sqlite3.connect(path).execute("SELECT count(*) FROM items").fetchone()
    assert count == 2  # those of b


def test_two_routers_share_a_file(path: Path) -> None:
    one, other = ResponseFile(path, LARGE), ResponseFile(path, LARGE)
    one.put(kept("a"))
    other.put(kept("b", "a"))
    assert one.context("", "b") == (b"ia", b"o", b"ib", b"o")


@pytest.fixture
def no_database(tmp_path: Path) -> Path:
    path = tmp_path / "responses.sqlite"
    path.write_bytes(b"no database" * 1000)
    return path


async def test_a_file_that_is_no_database(no_database: Path) -> None:
    store = ResponseStore(no_database, LARGE)
    with pytest.raises(Unavailable, match="cannot be used"):
        await store.get("", "a")
    await store.put(kept("a"))  # is logged
    await store.close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    mine = sqlite3.connect(path)
    mine.execute("CREATE TABLE items (id)")
    mine.commit()
    with pytest.raises(sqlite3.DatabaseError, match="another program"):
        ResponseFile(path, LARGE)
    assert mine.execute("SELECT count(*) FROM items").fetchone() == (0,)
    mine.close()


def test_a_file_is_opened_again(path: Path) -> None:
    first = ResponseFile(path, LARGE)
    first.put(kept("a"))
    first.close()
    again = ResponseFile(path, LARGE)
    assert again.get("", "a")
    again.close()


async def test_a_file_that_another_router_writes_holds_up_no_one_else(path: Path) -> None:
    store = ResponseStore(path, LARGE)
    await store.put(kept("a"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.put(kept("b")))
    await asyncio.sleep(0)  # the task runs now: a call in this thread would wait for this test, in vain
    other.execute("COMMIT")
    await waiting
    assert await store.get("", "b")
    await store.close()
    other.close()


@pytest.mark.parametrize(
    ("settings", "keeps"),
    [
        ({}, False),
        ({"home": "/h"}, True),
        ({"home": "/h", "router_count": 2}, False),
        ({"home": "/h", "siblings": "dns:///routers:8084"}, False),
        ({"home": "/h", "router_count": 2, "responses_store": "/s"}, True),
        ({"home": "/h", "responses_store": "off"}, False),
    ],
)
def test_where_responses_are_kept(settings: dict[str, Any], keeps: bool) -> None:
    assert response_store(RouterSettings(**settings)).keeps is keeps
