"""Keeps supervisord running while its logs cannot be written, as on a full disk, and tells which logs lose lines.

supervisord handles an error of a log file by printing it to its own log. On a full disk that fails too, and the error
ended supervisord and with it every process of the mesh.
"""

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from supervisor import loggers  # type: ignore[import-untyped] # it has no types


class LossyFileHandler(loggers.RotatingFileHandler):  # type: ignore[misc] # it has no types
    """Writes a log file; a line that cannot be written is lost, and `problem` says why until one can be written."""

    stream: Any
    problem = ""
    lost = 0
    """Lines or parts of lines lost since the last that was written."""

    def emit(self, record: Any) -> None:
        """Writes a record. Never raises an Exception."""
        lost = self.lost
        try:
            super().emit(record)
        except Exception as error:  # the change to the next file failed
            self._note(error)
        if self.lost == lost:
            self.problem, self.lost = "", 0

    def handleError(self) -> None:
        """Is called by supervisord when a write has failed."""
        self._note(sys.exc_info()[1])

    def close(self) -> None:
        """Closes the file, even if what is left cannot be written."""
        with suppress(OSError, ValueError):
            super().close()
        self.closed = True

    def _note(self, error: BaseException | None) -> None:
        self.lost += 1
        self.problem = getattr(error, "strerror", None) or str(error)
        if self.stream.closed:
            with suppress(OSError):
                self.stream = open(self.baseFilename, "ab")  # noqa: SIM115, PTH123 - open as long as the handler


class LossyStream:
    """A stream that drops what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, or drops it."""
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Does nothing: `write` has flushed."""


def use_lossy_logs() -> None:
    """Makes supervisord, in this process, write its logs and its services' logs with these classes."""
    loggers.RotatingFileHandler = LossyFileHandler
    sys.stdout, sys.stderr = LossyStream(sys.stdout), LossyStream(sys.stderr)


class LogInterface:
    """Answers calls about the logs over supervisord's XML-RPC."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord

    def logProblems(self) -> list[str]:
        """One line for each log that cannot be written now."""
        handlers = [*self._supervisord.options.logger.handlers, *self._service_handlers()]
        return [
            f"{handler.baseFilename} cannot be written: {handler.problem} ({handler.lost} times)"
            for handler in handlers
            if isinstance(handler, LossyFileHandler) and handler.problem
        ]

    def _service_handlers(self) -> Iterable[Any]:
        for group in self._supervisord.process_groups.values():
            for dispatcher in group.get_dispatchers().values():
                log = getattr(dispatcher, "normallog", None)
                yield from log.handlers if log else ()


def make_interface(supervisord: Any) -> LogInterface:
    """What supervisord's configuration names as the factory of this namespace."""
    return LogInterface(supervisord)
