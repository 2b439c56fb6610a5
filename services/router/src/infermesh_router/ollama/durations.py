"""Reads how long a model is to stay loaded: a number of seconds, or a duration as Go writes it, such as "1h30m"."""

import re

from pydantic_core import PydanticCustomError

FOREVER_S = float("inf")

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:(?:{_NUMBER})(?:ns|us|µs|μs|ms|s|m|h))+)")
_PLAIN = re.compile(rf"([+-]?)({_NUMBER})")
_MOST_CHARS = 64
_LONGEST_S = 1e9
"""What is longer is forever."""


def read_keep_alive(value: object) -> float:
    """Seconds; 0 means unloading at once, and any negative duration means forever. Raises PydanticCustomError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _limited(float(value))
    if isinstance(value, str) and len(value) <= _MOST_CHARS:
        text = value.strip()
        if (plain := _PLAIN.fullmatch(text)) is not None:
            return _limited(_signed(plain[1], float(plain[2])))
        if (found := _DURATION.fullmatch(text)) is not None:
            return _limited(_signed(found[1], sum(float(n) * _UNITS_S[unit] for n, unit in _PART.findall(found[2]))))
    raise PydanticCustomError(
        "keep_alive", 'Input should be a number of seconds, or a duration such as "5m" or "1h30m"; negative is forever'
    )


def _signed(sign: str, value: float) -> float:
    return -value if sign == "-" else value


def _limited(seconds: float) -> float:
    return seconds if 0 <= seconds <= _LONGEST_S else FOREVER_S
