"""Values whose changes several readers can follow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ChangeSignal:
    """Tells every follower that something changed. Used from one event loop."""

    def __init__(self) -> None:
        self._version = 0
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether followers are told of no more changes."""
        return self._closed.is_set()

    def notify(self) -> None:
        """Tells every follower that something changed."""
        self._version += 1
        self._wake()

    def close(self) -> None:
        """Ends every follower after its last change."""
        self._closed.set()
        self._wake()

    async def follow(self, min_interval_s: float = 0.0) -> AsyncIterator[None]:
        """Yields now and after each change, at most once in `min_interval_s`; changes in between are merged."""
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
        # Wakes everyone who waits now; later waiters wait for the next change.
        self._changed.set()
        self._changed.clear()


class WatchedValue(Generic[T]):
    """A value, and a stream of its changes for every follower. Used from one event loop."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._signal = ChangeSignal()
        self._listeners: list[Callable[[T], None]] = []

    @property
    def value(self) -> T:
        return self._value

    def set(self, value: T) -> None:
        """Replaces the value; setting an equal value is not a change."""
        if value == self._value:
            return
        self._value = value
        self._signal.notify()
        for listener in self._listeners:
            listener(value)

    def listen(self, listener: Callable[[T], None]) -> None:
        """Calls `listener` with each new value before `set` returns."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Ends every stream of changes after the last value."""
        self._signal.close()

    async def changes(self, min_interval_s: float = 0.0) -> AsyncIterator[T]:
        """Yields the value now and after each change, at most once in `min_interval_s`."""
        async for _ in self._signal.follow(min_interval_s):
            yield self._value


class DerivedValue(Generic[T]):
    """A value that is computed from others when it is read, and a stream of its changes. Used from one event loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._signal = ChangeSignal()

    @property
    def value(self) -> T:
        return self._make()

    @property
    def closed(self) -> bool:
        """Whether followers are told of no more changes."""
        return self._signal.closed

    def touch(self) -> None:
        """Tells that what it is computed from may have changed; costs almost nothing."""
        self._signal.notify()

    def close(self) -> None:
        """Ends every stream of changes after the last value."""
        self._signal.close()

    async def changes(self, min_interval_s: float = 0.0) -> AsyncIterator[T]:
        """Yields the value now and whenever it differs from the last one, at most once in `min_interval_s`."""
        last: T | None = None
        async for _ in self._signal.follow(min_interval_s):
            value = self._make()
            if value != last:
                last = value
                yield value
