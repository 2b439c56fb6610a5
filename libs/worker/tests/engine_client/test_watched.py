"""Following the changes of a value."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from infermesh_worker.engine_client.watched import DerivedValue, WatchedValue

T = TypeVar("T")


async def take(changes: AsyncIterator[T], count: int) -> list[T]:
    return [await anext(changes) for _ in range(count)]


async def test_first_value_comes_at_once_and_then_each_change() -> None:
    watched = WatchedValue(1)
    changes = watched.changes()
    assert await anext(changes) == 1
    following = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    watched.set(1)
    await asyncio.sleep(0)
    assert not following.done()
    watched.set(2)
    assert await following == 2


async def test_changes_within_the_interval_are_merged() -> None:
    watched = WatchedValue(0)
    changes = watched.changes(0.02)
    assert await anext(changes) == 0
    for value in (1, 2, 3):
        watched.set(value)
    started = asyncio.get_running_loop().time()
    assert await anext(changes) == 3
    assert asyncio.get_running_loop().time() - started >= 0.015


async def test_close_ends_every_follower_after_the_last_value() -> None:
    watched = WatchedValue("a")
    slow, quick = watched.changes(60), watched.changes()
    await take(slow, 1)
    await take(quick, 1)
    watched.set("b")
    watched.close()
    async with asyncio.timeout(5):
        assert [value async for value in slow] == ["b"]
        assert [value async for value in quick] == ["b"]


async def test_derived_value_is_made_when_somebody_looks_and_told_when_it_is_another() -> None:
    made, source = [], [1]

    def make() -> int:
        made.append(source[0])
        return source[0]

    derived = DerivedValue(make)
    for _ in range(3):
        derived.touch()
    assert made == []
    changes = derived.changes()
    assert await anext(changes) == 1
    following = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    derived.touch()
    await asyncio.sleep(0)
    assert not following.done()
    source[0] = 2
    assert derived.value == 2
    derived.touch()
    assert await following == 2
    assert not derived.closed
    derived.close()
    assert derived.closed
    assert [value async for value in changes] == []
