"""Reads the requests in a file, and makes the lines of the files of their answers."""

import orjson

from infermesh_router.batches.schema import RequestLine
from infermesh_router.batches.store.kept import Line, Problem
from infermesh_router.openai.errors import error_object
from infermesh_router.openai.parse import parse_body
from infermesh_runtime.error_types.anthropic import STATUSES
from infermesh_runtime.errors import Code, InfermeshError, InvalidArgument

MAX_LINES = 50_000
_MAX_PROBLEMS = 100
_STATUSES = STATUSES | {Code.UNAVAILABLE: 503, Code.UNIMPLEMENTED: 501}


def read_lines(content: bytes, endpoint: str) -> tuple[tuple[list[Line], list[Problem]], tuple[()]]:
    """The requests of a file, and what is wrong with it, in the form that the parsing pool returns."""
    return _read_lines(content, endpoint), ()


def _read_lines(content: bytes, endpoint: str) -> tuple[list[Line], list[Problem]]:
    lines: list[Line] = []
    problems: list[Problem] = []
    known: set[str] = set()
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = parse_body(RequestLine, text, ignore_unknown=True).request
        except InvalidArgument as error:
            problems.append(Problem(number, "invalid_request", error.message))
        else:
            if line.url != endpoint:
                problems.append(Problem(number, "mismatched_url", f"'url' must be {endpoint!r}, as the batch has it."))
            if line.custom_id in known:
                problems.append(Problem(number, "duplicate_custom_id", "'custom_id' must differ from line to line."))
            known.add(line.custom_id)
            lines.append(Line(custom_id=line.custom_id, body=orjson.dumps(line.body)))
        if len(problems) >= _MAX_PROBLEMS:
            return lines, problems
        if len(lines) > MAX_LINES:
            return lines, [Problem(number, "too_many_requests", f"A file has at most {MAX_LINES} requests.")]
    if not lines and not problems:
        problems.append(Problem(1, "empty_file", "The file has no requests."))
    return lines, problems


def answered(line: Line, n: int, request_id: str, body: bytes) -> bytes:
    """The line of an answer."""
    response = {"status_code": 200, "request_id": request_id, "body": orjson.Fragment(body)}
    return _line(line, n, response)


def refused(line: Line, n: int, request_id: str, error: InfermeshError) -> bytes:
    """The line of an error."""
    return _line(
        line, n, {"status_code": _STATUSES.get(error.code, 500), "request_id": request_id, "body": error_object(error)}
    )


def _line(line: Line, n: int, response: dict[str, object]) -> bytes:
    told = {"id": f"batch_req_{n}", "custom_id": line.custom_id, "response": response, "error": None}
    return orjson.dumps(told) + b"\n"
