"""The receipt of a request, as GET /mesh/v1/requests/{id} answers it; mesh.proto describes each field."""

from collections.abc import Sequence

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that could have been chosen."""

    endpoint: str = ""
    score: float = 0.0
    seconds: float = 0.0


class SamplingValue(msgspec.Struct, frozen=True):
    """A sampling parameter, and who set it."""

    name: str = ""
    value: float = 0.0
    source: str = ""


class Move(msgspec.Struct, frozen=True):
    """A move of the running stream."""

    from_endpoint: str = ""
    to_endpoint: str = ""
    reason: str = ""
    after_tokens: int = 0
    at_ms: float = 0.0


class FailedTry(msgspec.Struct, frozen=True):
    """An endpoint that failed before the first token."""

    endpoint: str = ""
    reason: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """What became of a request."""

    request_id: str = ""
    call: str = ""
    model: str = ""
    alias: str = ""
    arrived_at: str = ""
    status: str = ""
    error: str = ""
    endpoint: str = ""
    device: str = ""
    reason: str = ""
    score: float = 0.0
    seconds: float = 0.0
    runners_up: Sequence[Candidate] = ()
    queued_ms: float = 0.0
    loading_ms: float = 0.0
    overhead_ms: float = 0.0
    first_token_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    sampling: Sequence[SamplingValue] = ()
    seed: int | str = 0
    """JSON writes 64-bit integers as text."""
    ignored_fields: Sequence[str] = ()
    failovers: Sequence[Move] = ()
    retries: Sequence[FailedTry] = ()
    finish_reasons: Sequence[str] = ()
    others: "Sequence[Receipt]" = ()


class Receipts(msgspec.Struct, frozen=True):
    """The newest ones, newest first."""

    receipts: Sequence[Receipt] = ()
