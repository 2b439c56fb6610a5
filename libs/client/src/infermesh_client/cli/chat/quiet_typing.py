"""Keeps what is typed while an answer comes out of it."""

import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

_LOCAL_FLAGS = 3
"""Where tcgetattr puts the flags that echo is one of."""


@contextmanager
def quiet_typing() -> Iterator[None]:
    """What is typed while the block runs shows at the next prompt only. Ctrl-C works as ever."""
    if not sys.stdin.isatty():
        yield
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    quiet = list(before)
    quiet[_LOCAL_FLAGS] &= ~termios.ECHO
    termios.tcsetattr(file, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
