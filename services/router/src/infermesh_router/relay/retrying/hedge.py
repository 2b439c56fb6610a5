"""Hedging: starts a second try when the first is slow, and takes whichever answers sooner."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_RECENT = 200
_ENOUGH = 20
_MAX_MODELS = 256
QUANTILE = 0.95


class FirstTokenDelays:
    """How long recent requests to each model waited for their first token, which tells what counts as slow."""

    def __init__(self, max_models: int = _MAX_MODELS) -> None:
        self._max_models = max_models
        self._delays_s: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, model: str, delay_s: float) -> None:
        """Records how long a request waited for its first token. The models used last are remembered."""
        delays_s = self._delays_s.setdefault(model, deque(maxlen=_RECENT))
        delays_s.append(delay_s)
        self._delays_s.move_to_end(model)
        if len(self._delays_s) > self._max_models:
            self._delays_s.popitem(last=False)

    def slow_s(self, model: str) -> float:
        """The 95th percentile of the model's last 200 delays; infinite until there are 20."""
        delays_s = self._delays_s.get(model, ())
        if len(delays_s) < _ENOUGH:
            return math.inf
        return sorted(delays_s)[int(QUANTILE * (len(delays_s) - 1))]


async def first_of(
    first: Awaitable[T],
    second: Callable[[], Awaitable[T] | None],
    *,
    delay_s: float,
    discard: Callable[[T], None],
) -> T:
    """The result of `first` or `second`, whichever is there sooner.

    `second` is called when `first` has taken `delay_s`; it gives None if there is nothing else to try. The loser is
    cancelled, or passed to `discard` if it has a result too. Raises the error of `first` if both fail.
    """
    tasks: list[asyncio.Future[T]] = [asyncio.ensure_future(first)]
    try:
        await asyncio.wait(tasks, timeout=delay_s)
        if not tasks[0].done() and (again := second()) is not None:
            tasks.append(asyncio.ensure_future(again))
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
    """The task that succeeds first; the first in the list if none does."""
    waiting = set(tasks)
    while waiting:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                return task
    return tasks[0]


async def _end(tasks: "Sequence[asyncio.Future[T]]", discard: Callable[[T], None]) -> None:
    """Cancels the tasks that run, and discards the results of those that have one."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(result, BaseException):
            discard(result)
