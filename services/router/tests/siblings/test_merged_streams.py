"""Streams of sources that come and go, merged into one."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from infermesh_router.siblings.merged_streams import merged


@dataclass
class Sources:
    """Sources, each of which yields what is put into its queue."""

    queues: dict[str, asyncio.Queue[bytes | None]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, *names: str) -> None:
        self.queues = {name: self.queues.get(name) or asyncio.Queue() for name in names}
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def open(self, name: str) -> AsyncGenerator[bytes, None]:
        queue = self.queues[name]
        try:
            while (block := await queue.get()) is not None:
                yield block
        finally:
            self.closed.append(name)

    def merge(self) -> AsyncGenerator[bytes, None]:
        return merged(lambda: tuple(self.queues), lambda: self.changed, self.open)


async def test_sources_join_and_leave_while_it_runs() -> None:
    sources = Sources()
    stream = sources.merge()
    coming = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)  # it waits, with no source at all
    sources.change("a", "b")
    sources.queues["b"].put_nowait(b"from b")
    assert await coming == b"from b"
    sources.queues["a"].put_nowait(b"from a")
    assert await anext(stream) == b"from a"
    sources.change("a", "c")
    sources.queues["c"].put_nowait(b"from c")
    assert await anext(stream) == b"from c"
    assert sources.closed == ["b"]
    await stream.aclose()
    assert sorted(sources.closed) == ["a", "b", "c"]


async def test_one_that_ends_ends_alone_and_one_that_fails_fails_all() -> None:
    sources = Sources()
    sources.change("a", "b")
    stream = sources.merge()
    sources.queues["a"].put_nowait(None)
    sources.queues["b"].put_nowait(b"still here")
    assert await anext(stream) == b"still here"

    async def fail(_name: str) -> AsyncGenerator[bytes, None]:
        raise RuntimeError("broken")
        yield b""

    with pytest.raises(RuntimeError, match="broken"):
        await anext(merged(lambda: ("x",), asyncio.Event, fail))
    await stream.aclose()
