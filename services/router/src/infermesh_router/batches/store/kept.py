"""What the store keeps: files, batches, and the requests of a batch."""

from dataclasses import dataclass, field

INVALID, RUNNING, COMPLETED, EXPIRED, CANCELLED = (
    "failed",
    "in_progress",
    "completed",
    "expired",
    "cancelled",
)
"""OpenAI's names of a batch's states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file without what is in it."""

    id: str
    name: str
    purpose: str
    created_s: int
    """Unix time."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A request of a batch."""

    custom_id: str
    body: bytes
    """JSON, as it is run."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file of requests cannot be run."""

    line: int
    """Counted from 1."""
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many requests a batch has, and how many have ended."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch without its requests."""

    id: str
    owner: str
    """Whose key made it; the others do not find it."""
    endpoint: str
    """Where its requests go, such as /v1/chat/completions."""
    input_file: str
    created_s: int
    expires_s: int
    state: str = RUNNING
    ended_s: int | None = None
    metadata: bytes = b"null"
    """JSON."""
    problems: tuple[Problem, ...] = ()
    output_file: str | None = None
    error_file: str | None = None
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBounds:
    """How much is kept."""

    max_bytes: int
    """Of all files, and of all batches with their requests and answers."""
    max_age_s: float
    """Since a file or a batch was made."""
