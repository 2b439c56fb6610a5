"""Reads the requests in a file, and makes the lines of the files of their answers."""

import orjson

from infermesh_router.batches.schema import RequestLine
from infermesh_router.batches.store.kept import Line, Problem
from infermesh_router.openai.errors import error_object, invalid
from infermesh_router.openai.parse import parse_body
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.call import MAX_PRIORITY
from infermesh_runtime.error_types.anthropic import STATUSES
from infermesh_runtime.errors import Code, InfermeshError, InvalidArgument

MAX_LINES = 50_000
_MAX_PROBLEMS = 100
_RUN_AS = {"stream": False, "priority": MAX_PRIORITY}
"""What every request of a batch has, whatever its line says: over REST, what has a smaller priority goes first."""
_STATUSES = STATUSES | {Code.UNAVAILABLE: 503, Code.UNIMPLEMENTED: 501}


def read_lines(content: bytes, endpoint: str, bounds: Bounds) -> tuple[tuple[list[Line], list[Problem]], tuple[()]]:
    """The requests of a file, and what is wrong with it, in the form that the parsing pool returns."""
    return _read_lines(content, endpoint, bounds), ()


def _read_lines(content: bytes, endpoint: str, bounds: Bounds) -> tuple[list[Line], list[Problem]]:
    lines: list[Line] = []
    problems: list[Problem] = []
    known: set[str] = set()
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            bounds.check_json(text)
            line = parse_body(RequestLine, text, ignore_unknown=True).request
            body = _body(line)
        except InvalidArgument as error:
            problems.append(Problem(number, "invalid_request", error.message))
        else:
            if line.url != endpoint:
                problems.append(Problem(number, "mismatched_url", f"'url' must be {endpoint!r}, as the batch has it."))
            if line.custom_id in known:
                problems.append(Problem(number, "duplicate_custom_id", "'custom_id' must differ from line to line."))
            known.add(line.custom_id)
            lines.append(Line(custom_id=line.custom_id, body=body))
        if len(problems) >= _MAX_PROBLEMS:
            return lines, problems
        if len(lines) > MAX_LINES:
            return lines, [Problem(number, "too_many_requests", f"A file has at most {MAX_LINES} requests.")]
    if not lines and not problems:
        problems.append(Problem(1, "empty_file", "The file has no requests."))
    return lines, problems


def _body(line: RequestLine) -> bytes:
    """The body as it is run. Raises InvalidArgument."""
    try:
        return orjson.dumps(line.body | _RUN_AS)
    except orjson.JSONEncodeError as error:  # an integer of more than 64 bits
        raise invalid("body", f"cannot be read: {error}") from None


def answered(custom_id: str, n: int, request_id: str, body: bytes) -> bytes:
    """The line of an answer."""
    response = {"status_code": 200, "request_id": request_id, "body": orjson.Fragment(body)}
    return _line(custom_id, n, response)


def refused(custom_id: str, n: int, request_id: str, error: InfermeshError) -> bytes:
    """The line of an error."""
    status = _STATUSES.get(error.code, 500)
    return _line(custom_id, n, {"status_code": status, "request_id": request_id, "body": error_object(error)})


def _line(custom_id: str, n: int, response: dict[str, object]) -> bytes:
    told = {"id": f"batch_req_{n}", "custom_id": custom_id, "response": response, "error": None}
    return orjson.dumps(told) + b"\n"
