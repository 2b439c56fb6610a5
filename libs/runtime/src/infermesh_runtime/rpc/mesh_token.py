"""The mesh token: what processes of one mesh show each other, so that nobody else may give them orders or prompts."""

import hmac
from collections.abc import Callable, Iterable
from typing import Any

from infermesh_runtime.errors import InfermeshError, Unauthenticated

MESH_TOKEN_KEY = "x-infermesh-mesh-token"  # noqa: S105 - the name of the metadata, not a token
"""Metadata that carries the token. Not `authorization`, which carries a client's own key."""

Guard = Callable[[str, Iterable[tuple[str, Any]]], InfermeshError | None]
"""Decides by a call's method and metadata: the error to refuse it with, or None to let it in."""

_OPEN_METHODS = "/grpc.health.v1."


def token_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """What a call to a process of the mesh carries."""
    return ((MESH_TOKEN_KEY, token),) if token else ()


def require_token(token: str) -> Guard:
    """A guard that lets only calls with the token in. Probes of grpc.health.v1 need none."""
    expected = token.encode()

    def guard(method: str, metadata: Iterable[tuple[str, Any]]) -> InfermeshError | None:
        if method.startswith(_OPEN_METHODS):
            return None
        shown = next((value for key, value in metadata or () if key == MESH_TOKEN_KEY), "")
        raw = shown if isinstance(shown, bytes) else str(shown).encode()
        if hmac.compare_digest(raw, expected):  # takes the same time wherever the first difference is
            return None
        what = "The mesh token is wrong." if raw else "This call needs the mesh token."
        return Unauthenticated(
            f"{what} Give this process the same INFERMESH_MESH_TOKEN as the one that it calls.",
            reason="WRONG_MESH_TOKEN" if raw else "NO_MESH_TOKEN",
        )

    return guard
