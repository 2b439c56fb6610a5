"""The bound on how many sequences one model of a worker accepts."""

from dataclasses import dataclass

from infermesh_runtime.errors import ResourceExhausted

RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBound:
    """How many sequences each model accepts. Models do not share it: a full one takes no room from another."""

    max_running: int
    """Further sequences wait."""
    max_waiting: int

    def check(self, sequences: int, model: str, n: int) -> None:
        """Raises ResourceExhausted (QUEUE_FULL) when the model has `sequences`, and `n` more are too many.

        A request with more sequences than could ever fit is accepted when one of them could run at once.
        """
        capacity = self.max_running + self.max_waiting
        oversized = n > capacity and sequences < self.max_running
        if sequences + n > capacity and not oversized:
            waiting = max(0, sequences - self.max_running)
            raise ResourceExhausted(
                f"The queue of model {model!r} has no room for this request's {n} sequences: "
                f"{waiting} are already waiting; the limit is {self.max_waiting}. Retry in {RETRY_AFTER_S:g} s.",
                reason="QUEUE_FULL",
                metadata={"model": model, "waiting": str(waiting), "max_waiting": str(self.max_waiting)},
                retry_after_s=RETRY_AFTER_S,
            )
