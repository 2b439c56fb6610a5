"""The processes that read large requests."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InvalidArgument, Unavailable

Result = tuple[int, list[bytes]]


def echo(request: bytes, times: int) -> Result:
    return os.getpid(), [request] * times


def kill_this_process(request: bytes) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    return echo(request, 0)


def take_memory(request: bytes) -> Result:
    return len(bytes(3 << 30)), []


def refuse(request: bytes) -> Result:
    raise InvalidArgument("no", reason="WHY", fields={"a": "b"})


def keep_the_lock(request: bytes) -> Result:
    """Holds Python's lock, as a parser does: one call into C that takes about a second."""
    return sum(range(30_000_000)), []


async def other_pid(pool: ParsingPool) -> int:
    pid, _ = await pool.run(echo, b"", 0)
    return pid


@pytest.fixture
async def pool() -> AsyncIterator[ParsingPool]:
    pool = ParsingPool(processes=1)
    yield pool
    await pool.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_large_bytes_come_back_whole(pool: ParsingPool) -> None:
    request = os.urandom(1 << 20) * 40
    pid, parts = await pool.run(echo, request, 2)
    assert pid != os.getpid()
    assert [part == request for part in parts] == [True, True]


async def test_it_leaves_no_files_open(pool: ParsingPool) -> None:
    await other_pid(pool)
    before = open_files()
    for _ in range(3):
        await pool.run(echo, b"x", 1)
        with pytest.raises(InvalidArgument):
            await pool.run(refuse, b"")
        work = asyncio.create_task(pool.run(echo, b"", 0))
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await other_pid(pool)
    assert open_files() <= before


async def test_what_it_raises_arrives_whole(pool: ParsingPool) -> None:
    with pytest.raises(InvalidArgument, match="no") as raised:
        await pool.run(refuse, b"")
    assert (raised.value.reason, raised.value.fields) == ("WHY", {"a": "b"})


async def test_too_much_memory_is_an_error_of_the_request(pool: ParsingPool) -> None:
    with pytest.raises(InvalidArgument, match="too much memory"):
        await pool.run(take_memory, b"")
    assert await other_pid(pool) != os.getpid()


async def test_a_process_that_died_is_replaced(pool: ParsingPool) -> None:
    with pytest.raises(Unavailable, match="died"):
        await pool.run(kill_this_process, b"")
    assert await other_pid(pool) != os.getpid()


async def test_the_work_is_done_by_another_process(pool: ParsingPool) -> None:
    await other_pid(pool)
    before_s = time.process_time()
    await pool.run(keep_the_lock, b"")
    here_s = time.process_time() - before_s
    before_s = time.process_time()
    keep_the_lock(b"")
    assert here_s < (time.process_time() - before_s) / 2


async def test_a_request_that_is_cancelled_leaves_the_process_to_the_next_one(pool: ParsingPool) -> None:
    await other_pid(pool)
    work = asyncio.create_task(pool.run(keep_the_lock, b""))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await other_pid(pool) != os.getpid()
