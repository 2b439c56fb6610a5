"""Lets only so many calls go on in each round of the event loop, and reads first when more comes than they can write.

To write a token takes much longer than to read one. If all calls of a frame wrote at once, the next frame would be read
only after them, so that a router with too much to write would find one token for each call, and leave the others to
wait on their way to it, before the first tokens of new requests. With few in a round, frames are read in time, and the
tokens that came while a call waited for its turn go into one message.
"""

import asyncio
import time
from collections import deque
from typing import Protocol

MOST_IN_A_ROUND = 16
"""About a millisecond of writing."""
PAUSE_S = 0.001
"""Pause between rounds while calls are behind. A frame is read by threads of gRPC's own and takes several rounds, so it
would hardly ever be read while the event loop is always busy."""
BUSY_S = 0.003
"""Time from one pause to the next."""


class Waiting(Protocol):
    """What waits for its turn."""

    def go(self) -> bool:
        """Its turn has come. False if it no longer wants it."""
        ...


class Turns:
    """The turns of all calls of an event loop, in the order in which they asked."""

    def __init__(self, most: int = MOST_IN_A_ROUND, *, busy_s: float = BUSY_S) -> None:
        self._most = most
        self._busy_s = busy_s
        self._paused_s = 0.0
        """When the latest pause ended."""
        self._left = most
        """How many more may go in this round."""
        self._waiting: deque[Waiting] = deque()
        self._counting = False
        """Whether the end of this round will be noticed."""
        self._behind = False
        """Whether more came for a call before its turn, since the last time that none waited."""

    def may_go(self) -> bool:
        """Whether a call may go now, and then takes its turn; if not, it may `wait`."""
        if self._waiting or not self._left:
            return False
        self._left -= 1
        if not self._counting:
            self._count()
        return True

    def wait(self, call: Waiting) -> None:
        """Calls `go` once, when it is the call's turn."""
        self._waiting.append(call)

    def note_behind(self) -> None:
        """More has come for a call that waits."""
        self._behind = True

    def _count(self) -> None:
        self._counting = True
        asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        self._left, self._counting = self._most, False
        waiting = self._waiting
        while waiting and self._left:
            self._left -= waiting.popleft().go()
        if not waiting:
            self._behind = False
        if self._behind and time.perf_counter() - self._paused_s >= self._busy_s:
            self._counting = True
            asyncio.get_running_loop().call_soon(self._pause)  # once those that go have written
        elif self._left < self._most:
            self._count()

    def _pause(self) -> None:
        asyncio.get_running_loop().call_later(PAUSE_S, self._end_pause)

    def _end_pause(self) -> None:
        self._paused_s = time.perf_counter()
        self._next_round()
