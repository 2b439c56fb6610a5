"""Says whether an output is a value of its schema, as the package `jsonschema` and Python's own parsers see it."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import Any
from urllib.parse import urlsplit

from jsonschema import FormatChecker  # type: ignore[import-untyped] # it has no types
from jsonschema.validators import validator_for  # type: ignore[import-untyped] # the same

_HOST = r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DURATION = r"P(?!$)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?!$)(\d+H)?(\d+M)?(\d+S)?)?)"


def _moment(text: str) -> bool:
    day, _, clock = text.upper().partition("T")
    return _clock(clock) and datetime.fromisoformat(f"{day}T00:00:00Z").tzinfo is not None


def _clock(text: str) -> bool:
    """The time of RFC 3339, whose offset must be there; Python knows no leap seconds, nor so many digits."""
    found = re.fullmatch(r"(\d\d:\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text.upper())
    return found is not None and int(found[2]) <= 60 and time.fromisoformat(found[1] + found[4]).tzinfo is not None


_FORMATS: Mapping[str, Callable[[str], bool]] = {
    "date-time": _moment,
    "time": _clock,
    "duration": lambda text: re.fullmatch(_DURATION, text) is not None,
    "hostname": lambda text: re.fullmatch(_HOST, text) is not None,
    "uri": lambda text: bool(urlsplit(text).scheme) and not re.search(r"[\s<>\"{}|\\^`]", text),
}
"""Those that `jsonschema` checks only with further packages."""


def problem(schema: Mapping[str, Any], text: str) -> str:
    """What is wrong with an output; empty if nothing is. Of members with the same name, the last one counts."""
    kind = validator_for(schema)
    kind.check_schema(schema)
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"not JSON: {error}"
    return "; ".join(error.message for error in kind(schema, format_checker=_checker()).iter_errors(value))


def _checker() -> Any:
    checker = FormatChecker()
    for name, is_valid in _FORMATS.items():
        checker.checks(name, raises=ValueError)(_of_texts(is_valid))
    return checker


def _of_texts(is_valid: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or is_valid(value)
