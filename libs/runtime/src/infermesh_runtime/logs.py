"""Configures logging: one JSON object per line on stderr, through the standard library's logging."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("infermesh_request_id", default="")
"""Id of the request that the current task works for; "" if none."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id"}


_LEVELS = {name: name.lower() for name in logging.getLevelNamesMapping()}


@lru_cache(maxsize=2)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _timestamp(unix_s: float) -> str:
    """ISO 8601 to the millisecond. A busy server writes many lines in a second."""
    seconds, milliseconds = divmod(int(unix_s * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}+00:00"


class JsonFormatter(logging.Formatter):
    """Formats a record as {"ts", "level", "logger", "message"}, and "request_id", extras and "exception" if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": _LEVELS.get(record.levelname) or record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, "request_id", "") or REQUEST_ID.get():
            line["request_id"] = request_id
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return _encode(line)


class _Propagating(logging.Logger):
    """A logger whose records go to the root logger alone, whatever the library wants that made it."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        """Attaches nothing."""

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        pass


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends the process's logs of at least `level`, and its warnings, to `stream` (default stderr) and nowhere else.

    Removes the handlers that libraries such as grpc have attached, so that they log here too. Those that are imported
    later, such as torch, attach none.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.setLoggerClass(_Propagating)
    logging.captureWarnings(True)
    # no log line contains these, but logging looks them up for every record
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _encode(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates and integers beyond 64 bits: valid in JSON, refused by orjson
        return json.dumps(line, default=str)
