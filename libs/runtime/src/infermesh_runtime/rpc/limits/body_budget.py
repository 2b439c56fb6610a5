"""Bounds the memory that request messages take, over all calls and for each client, before they are read."""

from collections import defaultdict
from types import TracebackType
from typing import Any, Protocol, Self

from infermesh_runtime.errors import ResourceExhausted

SIZE_KEY = "x-infermesh-body-bytes"
"""Metadata that gives the size of the request message; Envoy sets it. Without it, a message counts once it is read."""
SMALL_BYTES = 64 * 1024
"""Messages up to this size count, but are never refused: the number of calls bounds them."""
ARRIVING_COPIES = 3
"""A message that is read and converted exists up to this many times: as it came, as parsed, as it is sent on."""
RETRY_AFTER_S = 1.0
MIB = 1 << 20

_FORWARDED_KEY = "x-forwarded-for"


class Share(Protocol):
    """What one call's message takes of the memory for messages. It is given back at the end of the `with` block."""

    def arrived(self, size_bytes: int) -> None:
        """The message is read and has this size. Raises ResourceExhausted if that does not fit."""

    def keep(self, size_bytes: int) -> None:
        """The message is converted; from now on the call holds only this much."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Bodies(Protocol):
    """Decides whether a call's message may be read."""

    timeout_s: float | None
    """How long a message may take to arrive; None is for ever."""

    def expect(self, context: Any) -> Share:
        """The share of the call with this gRPC context. Raises ResourceExhausted."""


class NoBudget:
    """A `Bodies` and `Share` without bounds."""

    timeout_s: float | None = None

    def expect(self, context: Any) -> Self:  # noqa: ARG002
        """Itself: there is nothing to count."""
        return self

    def arrived(self, size_bytes: int) -> None:
        """Counts nothing."""

    def keep(self, size_bytes: int) -> None:
        """Counts nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


NO_BUDGET = NoBudget()


class BodyBudget:
    """A `Bodies` that counts what the messages of running calls take. The first large message always fits."""

    def __init__(self, *, total_bytes: int, client_bytes: int, timeout_s: float | None = None) -> None:
        self.timeout_s = timeout_s
        self._total_bytes = total_bytes
        self._client_bytes = client_bytes
        self._held: defaultdict[str, int] = defaultdict(int)
        self.held_bytes = 0
        """What all calls take now."""

    def expect(self, context: Any) -> "CountedShare":
        """The share of a call whose message has the size that its metadata says."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if key in _KEYS}
        size = metadata.get(SIZE_KEY, "")
        share = CountedShare(self, _name_client(metadata, context))
        share.grow(ARRIVING_COPIES * int(size) if size.isdecimal() and len(size) < 16 else 0)
        return share

    def take(self, client: str, more_bytes: int, *, refusable: bool) -> None:
        """Counts `more_bytes` (negative: given back) for a client. Raises ResourceExhausted if they do not fit."""
        if refusable:
            self._check(client, more_bytes)
        self.held_bytes += more_bytes
        self._held[client] += more_bytes
        if not self._held[client]:
            del self._held[client]

    def _check(self, client: str, more_bytes: int) -> None:
        theirs = self._held.get(client, 0)
        if theirs > ARRIVING_COPIES * SMALL_BYTES and theirs + more_bytes > self._client_bytes:
            raise _refuse("Your requests in progress", theirs, self._client_bytes)
        if self.held_bytes > theirs and self.held_bytes + more_bytes > self._total_bytes:
            raise _refuse("The requests in progress", self.held_bytes, self._total_bytes)


class CountedShare:
    """The `Share` of a BodyBudget."""

    def __init__(self, budget: BodyBudget, client: str) -> None:
        self._budget = budget
        self._client = client
        self._held_bytes = 0

    def grow(self, held_bytes: int) -> None:
        """Takes up to `held_bytes` in all. Raises ResourceExhausted."""
        more_bytes = held_bytes - self._held_bytes
        if more_bytes > 0:
            refusable = held_bytes > ARRIVING_COPIES * SMALL_BYTES
            self._budget.take(self._client, more_bytes, refusable=refusable)
            self._held_bytes = held_bytes

    def arrived(self, size_bytes: int) -> None:
        """Counts the real size, which only a client that is not behind Envoy can have hidden."""
        self.grow(ARRIVING_COPIES * size_bytes)

    def keep(self, size_bytes: int) -> None:
        """Gives back what conversion took."""
        self._budget.take(self._client, size_bytes - self._held_bytes, refusable=False)
        self._held_bytes = size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep(0)


_KEYS = frozenset({SIZE_KEY, _FORWARDED_KEY})


def _name_client(metadata: dict[str, Any], context: Any) -> str:
    """The address that the call comes from: the last one that Envoy noted, or else the other end of the connection."""
    noted = metadata.get(_FORWARDED_KEY, "").rpartition(",")[2].strip()
    return noted or str(context.peer()).rpartition(":")[0]


def _refuse(what: str, held_bytes: int, limit_bytes: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"{what} already take {held_bytes / MIB:.0f} of {limit_bytes / MIB:.0f} MiB for request bodies. Try again in "
        f"{RETRY_AFTER_S:g} s, or send fewer large bodies at once.",
        reason="BODIES_TOO_LARGE",
        retry_after_s=RETRY_AFTER_S,
    )
