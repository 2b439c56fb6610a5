"""Owns values that others follow. Knows nothing of what they are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Changes:
    """The news that something changed, for each that follows. Used from one event loop."""

    def __init__(self) -> None:
        self._version = 0
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether no more changes are told."""
        return self._closed.is_set()

    def tell(self) -> None:
        """Something changed."""
        self._version += 1
        self._wake()

    def close(self) -> None:
        """Ends every stream of changes after its last one."""
        self._closed.set()
        self._wake()

    async def each(self, min_interval_s: float = 0.0) -> AsyncIterator[None]:
        """Yields now and after each change, at most once in `min_interval_s`; changes between are merged."""
        seen = -1
        while True:
            while seen == self._version:
                if self._closed.is_set():
                    return
                await self._changed.wait()
            seen = self._version
            yield
            await self._pause(min_interval_s)

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return

    def _wake(self) -> None:
        # Those that wait now are woken; those that come later wait for the next change.
        self._changed.set()
        self._changed.clear()


class Watched(Generic[T]):
    """A value, and a stream of its changes for each that asks. Used from one event loop."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._changes = Changes()
        self._listeners: list[Callable[[T], None]] = []

    @property
    def value(self) -> T:
        return self._value

    def set(self, value: T) -> None:
        """Replaces the value; an equal one is no change."""
        if value == self._value:
            return
        self._value = value
        self._changes.tell()
        for listener in self._listeners:
            listener(value)

    def listen(self, listener: Callable[[T], None]) -> None:
        """Has `listener` called with each new value, before `set` returns."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Ends every stream of changes after its last value."""
        self._changes.close()

    async def changes(self, min_interval_s: float = 0.0) -> AsyncIterator[T]:
        """Yields the value now and after each change, at most once in `min_interval_s`; changes between are merged."""
        async for _ in self._changes.each(min_interval_s):
            yield self._value


class Derived(Generic[T]):
    """A value that is made from others when somebody looks, and a stream of its changes. Used from one event loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._changes = Changes()

    @property
    def value(self) -> T:
        return self._make()

    @property
    def closed(self) -> bool:
        """Whether no more changes are told."""
        return self._changes.closed

    def touch(self) -> None:
        """What it is made from may have changed; costs next to nothing."""
        self._changes.tell()

    def close(self) -> None:
        """Ends every stream of changes after its last value."""
        self._changes.close()

    async def changes(self, min_interval_s: float = 0.0) -> AsyncIterator[T]:
        """Yields the value now and when it has become another, at most once in `min_interval_s`."""
        last: T | None = None
        async for _ in self._changes.each(min_interval_s):
            value = self._make()
            if value != last:
                last = value
                yield value
