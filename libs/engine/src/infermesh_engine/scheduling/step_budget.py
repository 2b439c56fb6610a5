"""Limits the tokens of a step, and lowers the limit for a while when a batch does not fit in the device's memory."""

from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.sequence import Sequence

RECOVERY_STEPS = 32
"""Steps that must fit at a lowered limit before the limit is doubled again."""


class StepBudget:
    """The most tokens that the next step may have."""

    def __init__(self, *, max_batched_tokens: int, min_run_tokens: int) -> None:
        """`min_run_tokens`: RunnerInfo's, which a prefill cannot go below."""
        self.tokens = max_batched_tokens
        self._max_batched_tokens = max_batched_tokens
        self._min_run_tokens = min_run_tokens
        self._steps_that_fitted = 0

    def shrink(self, plan: Plan) -> Sequence | None:
        """Lowers the limit because the plan did not fit in the device's memory.

        Returns the sequence that does not fit even alone with its fewest tokens; the caller has to remove it.
        """
        decodes, prefill = len(plan.decodes), plan.prefill_tokens
        self._steps_that_fitted = 0
        exceeds = prefill > self.tokens  # its fewest tokens: those of an image that must not be cut
        if decodes + len(plan.prefills) == 1 and (prefill <= self._min_run_tokens or exceeds):
            self.tokens = self._max_batched_tokens
            return plan.decodes[0] if decodes else plan.prefills[0].sequence
        self.tokens = max(1, decodes + prefill // 2 if prefill else decodes // 2)
        return None

    def recover(self) -> None:
        """Counts a step that fitted; after RECOVERY_STEPS of them a lowered limit doubles."""
        if self.tokens >= self._max_batched_tokens:
            return
        self._steps_that_fitted += 1
        if self._steps_that_fitted == RECOVERY_STEPS:
            self._steps_that_fitted = 0
            self.tokens = min(self._max_batched_tokens, 2 * self.tokens)
