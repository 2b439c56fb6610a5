"""Names the keyword of a JSON schema that llguidance's errors speak of without naming it."""

from collections.abc import Mapping, Sequence

_KEYWORDS: Mapping[str, Sequence[str]] = {
    "regex parse error": ("pattern", "patternProperties"),
    "Pointer '": ("$ref",),
    "Resource '": ("$ref", "$schema"),
    "invalid multiple of": ("multipleOf",),
}
"""Beginnings of errors, and what may be to blame."""
_EMPTY = "anyOf is empty"


def name_keyword(message: str, spec: str) -> str:
    """The message, which begins with the keyword if it did not tell it."""
    if message.endswith(_EMPTY) and not _has(spec, "anyOf"):
        return message.replace(_EMPTY, "enum is empty")  # llguidance reads `enum` as a choice between constants
    for beginning, keywords in _KEYWORDS.items():
        if message.startswith(beginning):
            used = [keyword for keyword in keywords if _has(spec, keyword)]
            return f"{' or '.join(used or keywords)}: {message}"
    return message


def _has(spec: str, keyword: str) -> bool:
    return f'"{keyword}"' in spec
