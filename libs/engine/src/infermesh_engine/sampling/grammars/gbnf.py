"""Translates grammars in GBNF (llama.cpp) or the EBNF of vLLM, whose rules read `root ::= …`, into Lark.

llguidance's converter does the work. This module writes differently what that converter does not read.
"""

# ruff: noqa: PLC0415 - llguidance is imported only to compile a format

import re

_RULE = re.compile(r"^[ \t]*[A-Za-z0-9_-]+[ \t]*::=", re.MULTILINE)
_PIECES = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\])  # a literal or a set of characters
      | (?P<comment>\#[^\n]*)
      | (?P<before_choice>\s+(?=\|))                       # a choice may begin on a line of its own""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|.)", re.DOTALL)


def is_gbnf(grammar: str) -> bool:
    """Whether the grammar has a rule of the form `name ::= …`, which Lark does not have."""
    return _RULE.search(grammar) is not None


def gbnf_to_lark(grammar: str) -> str:
    """The grammar in Lark. Raises ValueError when it is malformed or has no rule `root`."""
    from llguidance import gbnf_to_lark as converter

    try:
        return converter.gbnf_to_lark(_PIECES.sub(_rewrite, grammar))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # the converter raises Exception itself
        raise ValueError(str(error)) from error


def _rewrite(piece: re.Match[str]) -> str:
    if piece["text"]:
        return _ESCAPE.sub(_unescape, piece["text"])
    return " " if piece["before_choice"] else ""


def _unescape(escape: re.Match[str]) -> str:
    r"""A character's number as the character itself; ASCII stays a number (`\x22`), because it may mean something."""
    number = escape["x"] or escape["u"] or escape["U"]
    if number is None:
        return escape[0]
    code = int(number, 16)
    if code < 0x80:
        return f"\\x{code:02x}"
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError(f"{escape[0]} is not a character")
    return chr(code)
