"""Tells the front why the engine process ends: from `serve`, or from a thread that knows before the main thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, NotFound, Unimplemented
from infermesh_worker.engine_process.channel import Channel
from infermesh_worker.engine_process.frames import CrashReport

EXIT_CRASHED = 70
"""Exit status when building or running the model raised an exception (EX_SOFTWARE of sysexits.h)."""

_PERMANENT = (FailedPrecondition, InvalidArgument, NotFound, Unimplemented)
_CHANNEL: ContextVar[Channel | None] = ContextVar("channel", default=None)


def report_crash(channel: Channel, error: BaseException) -> None:
    """Sends the last frame, and waits for the front to take it. Raises ParentGoneError. May be called in any thread."""
    kind = "" if isinstance(error, InfermeshError) else type(error).__name__
    code, reason = (int(error.code), error.reason) if isinstance(error, InfermeshError) else (0, "")
    channel.send(CrashReport(kind, str(error), isinstance(error, _PERMANENT), code, reason))
    channel.drain()


@contextmanager
def reports_to(channel: Channel) -> Iterator[None]:
    """While it lasts, `crash_reporter` in this thread gives a function that tells the front at the channel's end."""
    token = _CHANNEL.set(channel)
    try:
        yield
    finally:
        _CHANNEL.reset(token)


def crash_reporter() -> Callable[[BaseException], None]:
    """`report_crash` for this engine process. Does nothing where there is no front, as in a test.

    Call it in the thread that builds the model, and what it returns in any, just before that thread ends the process:
    the main thread may be busy in a library, and cannot tell.
    """
    channel = _CHANNEL.get()
    return lambda error: None if channel is None else report_crash(channel, error)
