"""The keys that are in force, found by their text."""

from collections.abc import Callable, Iterable
from hmac import compare_digest

from infermesh_runtime.api_keys import ApiKey, hash_secret
from infermesh_runtime.errors import Unauthenticated

_INDEX_BYTES = 8


class Keyring:
    """A set of keys. Immutable, so that a changed file replaces it as a whole."""

    def __init__(self, keys: Iterable[ApiKey], *, now_s: Callable[[], float]) -> None:
        """`now_s` is the time of day, in seconds since 1970."""
        self.keys = tuple(keys)
        self._now_s = now_s
        self._by_hash: dict[bytes, list[tuple[bytes, ApiKey]]] = {}
        for key in self.keys:
            digest = bytes.fromhex(key.sha256)
            self._by_hash.setdefault(digest[:_INDEX_BYTES], []).append((digest, key))

    def verify(self, secret: str) -> ApiKey:
        """The key with this text. Raises Unauthenticated if it is missing, unknown, revoked or expired.

        One hash and a look-up by a part of it; whole hashes are compared in constant time. This takes about 2 µs, so
        there is no cache of verified keys, which would have to hold their texts.
        """
        if not secret:
            raise Unauthenticated(
                "This mesh needs an API key. Send it as 'authorization: Bearer KEY', or in 'x-api-key' or 'api-key'.",
                reason="MISSING_API_KEY",
            )
        return self._in_force(hash_secret(secret))

    def find(self, sha256: str) -> ApiKey:
        """The key whose text has this hash, "" for none. Raises as `verify` does."""
        return self._in_force(bytes.fromhex(sha256))

    def _in_force(self, digest: bytes) -> ApiKey:
        found = self._by_hash.get(digest[:_INDEX_BYTES], ())
        key = next((key for known, key in found if compare_digest(known, digest)), None)
        if key is None:
            raise Unauthenticated("The API key is not one of this mesh's keys.", reason="INVALID_API_KEY")
        if key.revoked is not None:
            raise Unauthenticated(f"The API key '{key.name}' was revoked.", reason="API_KEY_REVOKED")
        if key.expires is not None and key.expires.timestamp() <= self._now_s():
            raise Unauthenticated(f"The API key '{key.name}' expired on {key.expires:%F}.", reason="API_KEY_EXPIRED")
        return key
