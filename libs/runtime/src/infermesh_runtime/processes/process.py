"""Runs a service as a process: its event loop, its exit code, and SIGTERM and SIGINT as a request to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from infermesh_runtime.errors import InfermeshError

logger = logging.getLogger(__name__)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Runs a service to its end, on uvloop where it is installed, and returns the exit code.

    An InfermeshError becomes one log line and exit code 1. Any other exception is a bug and is raised.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(main())
        except InfermeshError as error:
            logger.error(error.message, extra={"reason": error.reason, **error.metadata})  # noqa: TRY400 - expected
            return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - absent on some platforms
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextmanager
def handled_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` at the first SIGTERM or SIGINT and ends the process at the second."""
    seen: list[int] = []

    def handle(number: int) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        stop()

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
