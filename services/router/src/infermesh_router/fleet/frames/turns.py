"""Lets only so many calls go on in each round of the event loop.

To write a token takes much longer than to read one. If all calls of a frame wrote at once, the next frame would be read
only after them, so that a router with too much to write would always find one token for each call, and leave the
others to wait on their way to it. With few in a round, frames are read in time, and the tokens that came while a call
waited for its turn go into one message.
"""

import asyncio
from collections import deque
from typing import Protocol

MOST_IN_A_ROUND = 16
"""About a millisecond of writing. Fewer would make rounds so short that their own cost counts."""


class Waiting(Protocol):
    """What waits for its turn."""

    def go(self) -> bool:
        """Its turn has come. False if it no longer wants it."""
        ...


class Turns:
    """The turns of all calls of an event loop, in the order in which they asked."""

    def __init__(self, most: int = MOST_IN_A_ROUND) -> None:
        self._most = most
        self._left = most
        """How many more may go in this round."""
        self._waiting: deque[Waiting] = deque()
        self._counting = False
        """Whether the end of this round will be noticed."""

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

    def _count(self) -> None:
        self._counting = True
        asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        self._left, self._counting = self._most, False
        waiting = self._waiting
        while waiting and self._left:
            self._left -= waiting.popleft().go()
        if self._left < self._most:
            self._count()
