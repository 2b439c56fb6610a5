"""Names a client that does not name itself, by a digest of its credentials."""

from collections.abc import Iterable
from hashlib import blake2b

_CREDENTIALS = ("authorization", "x-api-key", "api-key")
"""The first of them counts."""
_DIGEST_BYTES = 8


def derive_client_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The same id for the same credentials in the metadata; "" if there are none. It does not reveal them."""
    sent = {key: value for key, value in metadata or () if key in _CREDENTIALS}
    for key in _CREDENTIALS:
        if value := sent.get(key):
            data = value if isinstance(value, bytes) else value.encode()
            return f"key-{blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()}"
    return ""
