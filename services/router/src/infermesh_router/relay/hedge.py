"""Owns sending a slow request a second time: after which delay, and which answer is taken. Knows no endpoint."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_RECENT = 200
_ENOUGH = 20
QUANTILE = 0.95


class FirstTokenDelays:
    """How long the last requests waited for their first token, so that a slow one is known as such."""

    def __init__(self) -> None:
        self._delays_s: deque[float] = deque(maxlen=_RECENT)

    def note(self, delay_s: float) -> None:
        """A request had its first token."""
        self._delays_s.append(delay_s)

    def slow_s(self) -> float:
        """The delay that 95 % of the last 200 requests did not exceed; infinite before there were 20."""
        if len(self._delays_s) < _ENOUGH:
            return math.inf
        return sorted(self._delays_s)[int(QUANTILE * (len(self._delays_s) - 1))]


async def first_of(
    first: Awaitable[T],
    second: Callable[[], Awaitable[T]],
    *,
    delay_s: float,
    may_hedge: Callable[[], bool],
    discard: Callable[[T], None],
) -> T:
    """The result of `first`, or of `second`, begun when the first took `delay_s` and `may_hedge`: which comes sooner.

    The other is cancelled, or discarded if it has a result too. Raises the first's error when both fail.
    """
    tasks: list[asyncio.Future[T]] = [asyncio.ensure_future(first)]
    try:
        await asyncio.wait(tasks, timeout=delay_s)
        if not tasks[0].done() and may_hedge():
            tasks.append(asyncio.ensure_future(second()))
        winner = await _first_result(tasks)
    except BaseException:
        await _end(tasks, discard)
        raise
    tasks.remove(winner)
    try:
        await _end(tasks, discard)
    except asyncio.CancelledError:
        discard(winner.result())
        raise
    return winner.result()


async def _first_result(tasks: "Sequence[asyncio.Future[T]]") -> "asyncio.Future[T]":
    """The first task that succeeds; the very first one when none does."""
    waiting = set(tasks)
    while waiting:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                return task
    return tasks[0]


async def _end(tasks: "Sequence[asyncio.Future[T]]", discard: Callable[[T], None]) -> None:
    """Cancels what runs and discards what has a result."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(result, BaseException):
            discard(result)
