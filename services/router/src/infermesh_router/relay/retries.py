"""Decides whether a request that failed before its first token is tried again."""

import asyncio
import logging
import random

from infermesh_router.fleet.faults import Verdict, judge, with_retry_after
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.retry_budget import RetryBudget
from infermesh_runtime.errors import InfermeshError

_log = logging.getLogger(__name__)

_BUSY_MIN_S = 0.005
_BUSY_MAX_S = 0.25


class Retries:
    """The tries of one request. Each request pays its share into the budget."""

    def __init__(self, attempts: int, budget: RetryBudget, metrics: RequestMetrics) -> None:
        """`attempts`: how many endpoints may be tried in total."""
        self._attempts = attempts
        self._budget = budget
        self._metrics = metrics
        self._failures: dict[str, InfermeshError] = {}
        self._busy_s = _BUSY_MIN_S
        self._had_internal = False
        budget.deposit()

    @property
    def tried(self) -> frozenset[str]:
        """Endpoints that must not be tried again."""
        return frozenset(self._failures)

    @property
    def last(self) -> InfermeshError | None:
        """The most recent failure."""
        return next(reversed(self._failures.values()), None)

    async def after(self, address: str, error: InfermeshError) -> None:
        """Returns when the request may be sent again after this error. Raises the error if it may not."""
        verdict = judge(error)
        if verdict is Verdict.REFUSE:
            raise error
        if verdict is Verdict.BUSY:
            await self._wait()
            return
        self._failures[address] = with_retry_after(error)
        _log.warning("endpoint %s failed before its first token: %s", address, error.message)
        if len(self._failures) >= self._attempts or (verdict is Verdict.FAULT_ONCE and self._had_internal):
            raise error
        self._had_internal = self._had_internal or verdict is Verdict.FAULT_ONCE
        if verdict is not Verdict.LEAVE and not self._budget.withdraw():
            raise error
        self._metrics.retries.inc()

    async def _wait(self) -> None:
        """Waits for the endpoint to report that it is full; until then the policy would choose it again."""
        await asyncio.sleep(self._busy_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        self._busy_s = min(2 * self._busy_s, _BUSY_MAX_S)
