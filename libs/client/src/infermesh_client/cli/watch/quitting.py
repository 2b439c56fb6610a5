"""Ends a view that fills the terminal when q is pressed."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_QUIT = b"q"


@contextmanager
def quit_key() -> Iterator[asyncio.Event]:
    """Yields an event that is set when q is pressed while the block runs; without a terminal to read, never."""
    pressed = asyncio.Event()
    if not sys.stdin.isatty():
        yield pressed
        return
    loop, file = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(file)

    def read() -> None:
        with suppress(OSError):  # the terminal is gone
            if keys := os.read(file, 64):
                return pressed.set() if _QUIT in keys.lower() else None
        loop.remove_reader(file)
        return None

    tty.setcbreak(file)
    loop.add_reader(file, read)
    try:
        yield pressed
    finally:
        loop.remove_reader(file)
        termios.tcsetattr(file, termios.TCSADRAIN, before)
