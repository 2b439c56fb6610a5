"""Ends the front process when its event loop stands still, so that its supervisor starts it again."""

import asyncio
import faulthandler

_REARMS = 4
"""How often the deadline is moved within the time that it allows."""


class FrontWatchdog:
    """Watches the event loop that runs `start`.

    The deadline is kept by a thread of faulthandler, which needs no interpreter lock: it works even while a library
    holds the lock for ever. When the deadline passes, it writes every thread's stack to stderr and exits with status 1.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._next: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Starts to watch. A process has one faulthandler deadline, so only one watchdog may run in it."""
        self._arm()

    async def stop(self) -> None:
        """Stops watching."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        faulthandler.dump_traceback_later(self._timeout_s, exit=True)
        self._next = asyncio.get_running_loop().call_later(self._timeout_s / _REARMS, self._arm)
