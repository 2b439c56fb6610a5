"""Makes what a server tells fit to show: without our API key, and without what would change a terminal."""

import json
import re
import sys

_HIDDEN = "***"
_MAX_SHOWN = 300
"""Longest text of a server that is shown, in characters."""
_SIGNS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_SIGNS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """The text with signs in place of the characters that would move a terminal's cursor, colour it, or make it act."""
    return text.translate(_SIGNS) if _CONTROLS.search(text) else text


def printable(text: str) -> str:
    """The text as it may go to stdout: visible on a terminal, and unchanged in a file or a pipe."""
    return visible(text) if sys.stdout.isatty() else text


def plain(text: object) -> str:
    """A text that a server tells, or its JSON as we write it, without what would change a terminal."""
    try:
        told = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    except RecursionError:
        told = "an error that is nested too deep to show"
    return " ".join("".join(each if each.isprintable() else " " for each in told).split())


def shown(text: object, key: str) -> str:
    """The same without the key, which some servers repeat in their errors, and then cut, as half a key tells too."""
    told = plain(text)
    written = {plain(form) for form in (key, json.dumps(key)[1:-1], repr(key)[1:-1])}
    for form in sorted(filter(None, written), key=len, reverse=True):
        told = told.replace(form, _HIDDEN)
    return told[:_MAX_SHOWN]


def connection_problem(error: Exception) -> str:
    """What an error of a connection says, and what helps if it is a certificate that is not trusted."""
    if _UNTRUSTED not in str(error):
        return str(error)
    return "its certificate is not trusted; INFERMESH_TLS_CA names the file of the CA to trust"
