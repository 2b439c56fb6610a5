"""Names a client that does not name itself, by a digest of its credentials."""

from collections.abc import Iterable
from hashlib import blake2b

_AUTHORIZATION = "authorization"
_DIGEST_BYTES = 8


def derive_client_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The same id for the same `authorization` metadata; "" if there is none. It does not reveal the credentials."""
    for key, value in metadata or ():
        if key == _AUTHORIZATION:
            data = value if isinstance(value, bytes) else value.encode()
            return f"key-{blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()}"
    return ""
