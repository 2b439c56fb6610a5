"""Hashes the id of a session, so that all routers side by side send it to the same one of near-equal endpoints."""

from hashlib import blake2b

_HASH_BYTES = 8


def hash_session(session_id: str) -> tuple[int, ...]:
    """The hash, for `pick_by_hash`; empty if there is no session.

    A session's requests reach several routers in turn. Each of them would else have to learn by itself which endpoint
    holds the conversation, and the first request to each could go anywhere.
    """
    return (int.from_bytes(blake2b(session_id.encode(), digest_size=_HASH_BYTES).digest()),) if session_id else ()
