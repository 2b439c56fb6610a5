"""The processes that read large requests."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InvalidArgument, Unavailable


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def take_memory() -> int:
    return len(bytes(3 << 30))


def refuse() -> None:
    raise InvalidArgument("no", reason="WHY", fields={"a": "b"})


def keep_the_lock() -> int:
    """Holds Python's lock, as a parser does: one call into C that takes about a second."""
    return sum(range(30_000_000))


@pytest.fixture
async def pool() -> AsyncIterator[ParsingPool]:
    pool = ParsingPool(processes=1)
    yield pool
    await pool.close()


async def test_what_it_raises_arrives_whole(pool: ParsingPool) -> None:
    with pytest.raises(InvalidArgument, match="no") as raised:
        await pool.run(refuse)
    assert (raised.value.reason, raised.value.fields) == ("WHY", {"a": "b"})


async def test_too_much_memory_is_an_error_of_the_request(pool: ParsingPool) -> None:
    with pytest.raises(InvalidArgument, match="too much memory"):
        await pool.run(take_memory)
    assert await pool.run(os.getpid) != os.getpid()


async def test_a_process_that_died_is_replaced(pool: ParsingPool) -> None:
    with pytest.raises(Unavailable, match="died"):
        await pool.run(kill_this_process)
    assert await pool.run(os.getpid) != os.getpid()


async def test_the_loop_goes_on_meanwhile(pool: ParsingPool) -> None:
    await pool.run(os.getpid)
    work = asyncio.create_task(pool.run(keep_the_lock))
    turns, longest_s, last_s = 0, 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(0)
        turns, now_s = turns + 1, time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    assert turns > 100
    assert longest_s < 0.25


async def test_a_request_that_is_cancelled_leaves_the_process_to_the_next_one(pool: ParsingPool) -> None:
    await pool.run(os.getpid)
    work = asyncio.create_task(pool.run(keep_the_lock))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await pool.run(os.getpid) != os.getpid()
