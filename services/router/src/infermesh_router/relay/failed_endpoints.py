"""Remembers on which endpoints a stream has failed, and for how long each of them is avoided."""

from collections.abc import Callable
from functools import partial

from infermesh_runtime.background.tasks import TaskSupervisor

_AVOID_MIN_S = 0.05
_AVOID_MAX_S = 1.0


class FailedEndpoints:
    """The endpoints on which one stream failed.

    Each is avoided for 50 ms after its first failure, and for twice as long after each further one, up to a second:
    it may be the only one that can continue the stream, and it may be well again soon.
    """

    def __init__(self, wake: Callable[[], None], *, clock: Callable[[], float], tasks: TaskSupervisor) -> None:
        """`wake` is called when an endpoint is no longer avoided."""
        self._tasks = tasks
        self._wake = wake
        self._clock = clock
        self._avoid_s: dict[str, float] = {}
        self._until_s: dict[str, float] = {}

    @property
    def addresses(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self._until_s)

    @property
    def avoided(self) -> dict[str, float]:
        """Those to avoid, each with the time until which."""
        now_s = self._clock()
        return {address: until_s for address, until_s in self._until_s.items() if until_s > now_s}

    def note(self, address: str) -> None:
        """The stream failed there."""
        avoid_s = self._avoid_s[address] = min(_AVOID_MAX_S, 2 * self._avoid_s.get(address, _AVOID_MIN_S / 2))
        self._until_s[address] = self._clock() + avoid_s
        self._wait(address)

    def _wait(self, address: str) -> None:
        """Wakes once the endpoint is no longer avoided: a timer may fire a little early by the clock."""
        left_s = self._until_s[address] - self._clock()
        if left_s > 0:
            self._tasks.call_later("retry timer", left_s, partial(self._wait, address), about=address)
        else:
            self._wake()
