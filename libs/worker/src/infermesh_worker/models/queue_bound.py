"""Owns the bound of a worker's own queue. Pure. Knows no stream: it is given how many sequences each model has."""

from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_runtime.errors import ResourceExhausted

RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBound:
    """How many sequences a worker takes."""

    max_running: int
    """Of one model; what is beyond it waits."""
    max_waiting: int
    """Of all models together."""

    def waiting(self, sequences: Mapping[str, int]) -> int:
        """How many wait, given each model's sequences."""
        return sum(max(0, count - self.max_running) for count in sequences.values())

    def check(self, sequences: Mapping[str, int], model: str, n: int) -> None:
        """Raises ResourceExhausted (QUEUE_FULL) when `n` more sequences of `model` are too many.

        A request of more sequences than would ever have room is taken when one of them could run at once.
        """
        waiting = self.waiting(sequences)
        have = sequences.get(model, 0)
        after = waiting + max(0, have + n - self.max_running) - max(0, have - self.max_running)
        oversized = n > self.max_running + self.max_waiting and have < self.max_running
        if after > max(waiting, self.max_waiting) and not oversized:
            raise ResourceExhausted(
                f"the queue is full: {waiting} sequences wait of at most {self.max_waiting}, and {n} would join them",
                reason="QUEUE_FULL",
                metadata={"waiting": str(waiting), "max_waiting": str(self.max_waiting)},
                retry_after_s=RETRY_AFTER_S,
            )
