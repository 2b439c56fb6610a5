"""Keeps what is typed while an answer comes out of it."""

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LOCAL_FLAGS = 3
"""Where tcgetattr puts the flags that echo is one of."""


@contextmanager
def quiet_typing() -> Iterator[None]:
    """What is typed while the block runs shows at the next prompt only. Ctrl-C works as ever.

    Does nothing in the background, where whoever sets the terminal is stopped, nor to a terminal that cannot be set.
    """
    file = sys.stdin.fileno()
    before = _flags(file)
    if before is None:
        yield
        return
    quiet = list(before)
    quiet[_LOCAL_FLAGS] &= ~termios.ECHO
    _set_flags(file, quiet)
    try:
        yield
    finally:
        _set_flags(file, before)


def _flags(file: int) -> list[Any] | None:
    with suppress(termios.error):
        return termios.tcgetattr(file)
    return None


def _set_flags(file: int, flags: list[Any]) -> None:
    if _in_foreground(file):
        with suppress(termios.error):
            termios.tcsetattr(file, termios.TCSADRAIN, flags)


def _in_foreground(file: int) -> bool:
    """Whether this process may set the terminal. A terminal of another session stops nobody who sets it."""
    try:
        return os.tcgetpgrp(file) == os.getpgrp()
    except OSError:
        return True
