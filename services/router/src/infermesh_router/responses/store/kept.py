"""What the store keeps, and how much of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptItem:
    """An item of a response's input or output."""

    id: str
    body: bytes
    """JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """A response as it is kept. What is not part of it is not kept: the events of its stream, and headers."""

    id: str
    owner: str
    """Whose key made it; the others find nothing."""
    previous: str | None
    """The response whose conversation it continues."""
    body: bytes
    """The object `response` as JSON."""
    input: tuple[KeptItem, ...]
    output: tuple[KeptItem, ...]

    @property
    def size_bytes(self) -> int:
        """What it counts for."""
        return len(self.body) + sum(len(item.body) for item in (*self.input, *self.output))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBounds:
    """How much is kept. When it is more, what was used least recently goes first."""

    max_bytes: int
    max_rows: int
    max_age_s: float
    """Since a response was made."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list."""

    items: tuple[KeptItem, ...]
    has_more: bool
