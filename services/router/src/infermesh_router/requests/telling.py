"""Tells the client of a request, now and then, what the request waits for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Tell = Callable[[str], Awaitable[None]]
"""Tells the client something, in words."""
Settled = Callable[[float], Awaitable[bool]]
"""Waits for what the request waits for, at most so many seconds; returns whether it is there."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How one request's client is told. Nothing runs beside the request: it tells while it waits."""

    tell: Tell
    first_s: float
    """How long the request waits before its client is told anything."""

    async def until(self, settled: Settled, say: Callable[[float], str], *, every_s: float) -> None:
        """Waits until it is settled, and meanwhile tells what `say` returns for the seconds waited; "": nothing.

        Raises what `tell` raises.
        """
        waited_s, pause_s = 0.0, self.first_s
        while not await settled(pause_s):
            waited_s += pause_s
            if text := say(waited_s):
                await self.tell(text)
            pause_s = every_s
