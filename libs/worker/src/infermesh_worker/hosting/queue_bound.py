"""The bound on how many sequences may wait in a worker."""

from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_runtime.errors import ResourceExhausted

RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBound:
    """How many sequences a worker accepts."""

    max_running: int
    """For each model; further sequences wait."""
    max_waiting: int
    """For all models together."""

    def waiting(self, sequences: Mapping[str, int]) -> int:
        """How many sequences wait, given how many each model has."""
        return sum(max(0, count - self.max_running) for count in sequences.values())

    def check(self, sequences: Mapping[str, int], model: str, n: int) -> None:
        """Raises ResourceExhausted (QUEUE_FULL) when `n` more sequences of `model` are too many.

        A request with more sequences than could ever fit is accepted when one of them could run at once.
        """
        waiting = self.waiting(sequences)
        have = sequences.get(model, 0)
        after = waiting + max(0, have + n - self.max_running) - max(0, have - self.max_running)
        oversized = n > self.max_running + self.max_waiting and have < self.max_running
        if after > max(waiting, self.max_waiting) and not oversized:
            raise ResourceExhausted(
                f"The worker's queue has no room for this request's {n} sequences: "
                f"{waiting} are already waiting; the limit is {self.max_waiting}. Retry in {RETRY_AFTER_S:g} s.",
                reason="QUEUE_FULL",
                metadata={"waiting": str(waiting), "max_waiting": str(self.max_waiting)},
                retry_after_s=RETRY_AFTER_S,
            )
