"""Decides whether a request that failed before its first token is tried again."""

import logging

from infermesh_router.fleet.faults import Verdict, judge, with_retry_after
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.retrying.lost_endpoints import LostEndpoints
from infermesh_router.relay.retrying.retry_budget import RetryBudget
from infermesh_runtime.errors import InfermeshError

_log = logging.getLogger(__name__)


class Retries:
    """The tries of one request. Each request pays its share into the budget."""

    def __init__(self, attempts: int, budget: RetryBudget, metrics: RequestMetrics, lost: LostEndpoints) -> None:
        """`attempts`: how many may be made in total. `lost` is told of each that fails."""
        self._attempts = attempts
        self._budget = budget
        self._metrics = metrics
        self._lost = lost
        self._failed = 0
        self._last: InfermeshError | None = None
        self._had_internal = False
        budget.deposit()

    @property
    def last(self) -> InfermeshError | None:
        """The most recent failure."""
        return self._last

    def note(self, address: str, error: InfermeshError) -> None:
        """Records a failure. Raises the error if the request may not be tried again."""
        verdict = judge(error)
        if verdict is Verdict.REFUSE:
            raise error
        if verdict is Verdict.BUSY:  # the endpoint counts as full now, and the request goes back to its place
            return
        self._failed += 1
        self._last = with_retry_after(error)
        _log.warning("endpoint %s failed before its first token: %s", address, error.message)
        if self._failed >= self._attempts or (verdict is Verdict.FAULT_ONCE and self._had_internal):
            raise error
        self._had_internal = self._had_internal or verdict is Verdict.FAULT_ONCE
        if verdict is not Verdict.LEAVE and not self._budget.withdraw():
            raise error
        self._lost.note(address, error)
        self._metrics.retries.inc()
