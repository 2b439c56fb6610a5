"""Finds the API key in a call's metadata, where REST clients' headers arrive too."""

from collections.abc import Iterable

_BEARER = "bearer "
_PLAIN = ("x-api-key", "api-key")
"""Anthropic's and Azure's headers, which hold the key alone."""


def read_secret(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The key of `authorization: Bearer`, else of `x-api-key`, else of `api-key`; "" if there is none."""
    plain: dict[str, str] = {}
    for name, value in metadata or ():
        if isinstance(value, bytes):
            continue
        if name == "authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
        if name in _PLAIN:
            plain.setdefault(name, value.strip())
    return next((plain[name] for name in _PLAIN if plain.get(name)), "")
