"""Owns how a process logs: one JSON object a line on stderr, through stdlib logging. Knows no service."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("infermesh_request_id", default="")
"""Id of the request that the current task works for; "" outside of any."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id"}


class JsonFormatter(logging.Formatter):
    """Formats a record as {"ts", "level", "logger", "message"}, "request_id", the record's extras and "exception"."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
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


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends the logs and warnings of the whole process to `stream` (default stderr), from `level` on, and nowhere else.

    Libraries that attach handlers of their own (grpc among them) are made to log through this one.
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
    logging.captureWarnings(True)
    # no line has them, and each is looked up for every record
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _encode(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates and integers beyond 64 bits, which JSON has and orjson has not
        return json.dumps(line, default=str)
