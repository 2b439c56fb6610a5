"""Counts the work that an endpoint was sent: what runs, and what its last report cannot contain yet."""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """Work sent to an endpoint that has not ended."""

    model: str
    prompt_tokens: int
    sequences: int
    since_s: float


class SentWork:
    """The leases of one endpoint. All sums are kept as leases come and go, so that asking for them costs nothing."""

    __slots__ = ("_ended", "_leases", "_unreported", "own", "own_total", "tokens", "tokens_total", "unseen")

    def __init__(self) -> None:
        self._leases: set[Lease] = set()
        self._unreported: set[Lease] = set()
        self._ended: list[tuple[float, Lease]] = []
        """When work ended that the last report may still count, and its lease."""
        self.own: Counter[str] = Counter()
        """Sequences of all leases, by model; never 0."""
        self.own_total = 0
        self.tokens: dict[str, int] = {}
        """By model: prompt tokens that were sent since the last report."""
        self.tokens_total = 0
        self.unseen: Counter[str] = Counter()
        """By model: sequences that were sent since the last report, less those that ended and that it still counts."""

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def models(self) -> AbstractSet[str]:
        """Models whose reported load is not all that is known."""
        return self.own.keys() | self.unseen.keys()

    def add(self, lease: Lease) -> None:
        """Work is being sent."""
        self._leases.add(lease)
        self._unreported.add(lease)
        self.own[lease.model] += lease.sequences
        self.own_total += lease.sequences
        self._count(lease)

    def remove(self, lease: Lease, now_s: float) -> bool:
        """The work ended. False if it had ended before."""
        if lease not in self._leases:
            return False
        self._leases.discard(lease)
        self.own_total -= lease.sequences
        self.own[lease.model] -= lease.sequences
        if not self.own[lease.model]:
            del self.own[lease.model]
        if lease in self._unreported:
            self._unreported.discard(lease)
            self.tokens[lease.model] -= lease.prompt_tokens
            self.tokens_total -= lease.prompt_tokens
        else:
            self._ended.append((now_s, lease))
        self.unseen[lease.model] -= lease.sequences
        return True

    def reported(self, newest_s: float) -> None:
        """A report has come that contains what was sent, and what ended, until `newest_s`."""
        self._unreported = {lease for lease in self._unreported if lease.since_s > newest_s}
        self._ended = [(ended_s, lease) for ended_s, lease in self._ended if ended_s > newest_s]
        self.unseen.clear()
        self.tokens.clear()
        self.tokens_total = 0
        for lease in self._unreported:
            self._count(lease)
        for _, lease in self._ended:
            self.unseen[lease.model] -= lease.sequences

    def _count(self, lease: Lease) -> None:
        self.unseen[lease.model] += lease.sequences
        self.tokens[lease.model] = self.tokens.get(lease.model, 0) + lease.prompt_tokens
        self.tokens_total += lease.prompt_tokens
