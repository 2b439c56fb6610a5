"""One JSON object per line, whatever is logged."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from infermesh_runtime import logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("info", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.setLoggerClass(logging.Logger)
    logging.captureWarnings(False)


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("unix_s", [0.0, 1795768319.0, 1795768319.9995, 1795768320.25, 4102444799.999])
def test_the_time_of_a_line(unix_s: float, lines: io.StringIO) -> None:
    record = logging.makeLogRecord({"created": unix_s, "levelno": logging.INFO, "levelname": "INFO"})
    logging.getLogger("shop").handle(record)
    (line,) = read(lines)
    assert datetime.fromisoformat(line["ts"]).timestamp() == pytest.approx(unix_s, abs=0.001)
    assert line["ts"][-10:-9] == "."  # milliseconds, then the time zone


def test_a_line_has_the_fields_and_the_extras(lines: io.StringIO) -> None:
    token = logs.REQUEST_ID.set("r-1")
    logging.getLogger("shop").info("sold %d", 3, extra={"price_s": 1.5, "kind": "tea"})
    logs.REQUEST_ID.reset(token)
    (line,) = read(lines)
    assert line.pop("ts").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "shop",
        "message": "sold 3",
        "request_id": "r-1",
        "price_s": 1.5,
        "kind": "tea",
    }


def test_a_library_that_is_imported_later_logs_here(lines: io.StringIO) -> None:
    """As torch does, which attaches handlers of its own to its loggers."""
    own = io.StringIO()
    library = logging.getLogger("library.imported.later")
    library.addHandler(logging.StreamHandler(own))
    library.propagate = False
    logging.getLogger("library.imported.later.part").warning("careful")
    (line,) = read(lines)
    assert (line["message"], own.getvalue()) == ("careful", "")


def test_an_exception_stays_on_its_line(lines: io.StringIO) -> None:
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("shop").exception("failed")
    (line,) = read(lines)
    assert r"two\nlines" in line["exception"]
    assert "request_id" not in line


@pytest.mark.parametrize("odd", ["lone \udc80", 2**70, {1: {2, 3}}, object(), b"\xff", float("nan")])
def test_anything_can_be_logged(lines: io.StringIO, odd: object) -> None:
    logging.getLogger("shop").info("odd", extra={"odd": odd})
    assert len(read(lines)) == 1


def test_other_loggers_and_warnings_come_out_once_and_in_json(lines: io.StringIO) -> None:
    own = logging.getLogger("library")
    own.addHandler(logging.StreamHandler(lines))
    own.propagate = False
    logs.configure("info", lines)
    own.warning("from a library")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    messages = [line["message"] for line in read(lines)]
    assert messages[0] == "from a library"
    assert len(messages) == 2
    assert "careful" in messages[1]


def test_level(lines: io.StringIO) -> None:
    logging.getLogger("shop").debug("no")
    assert not read(lines)
