"""Owns the name of a client that gives none: a digest of its credentials. Knows no request; keeps no credentials."""

from collections.abc import Iterable
from hashlib import blake2b

_AUTHORIZATION = "authorization"
_DIGEST_BYTES = 8


def name_client(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The same name for the same `authorization` metadata; "" where there is none."""
    for key, value in metadata or ():
        if key == _AUTHORIZATION:
            data = value if isinstance(value, bytes) else value.encode()
            return f"key-{blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()}"
    return ""
