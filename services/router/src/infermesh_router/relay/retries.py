"""Owns whether a request that failed before its first token is tried again. Knows no call and no policy."""

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
    """The tries of one request. It pays into the budget by being one."""

    def __init__(self, attempts: int, budget: RetryBudget, metrics: RequestMetrics) -> None:
        """`attempts`: endpoints to try in all."""
        self._attempts = attempts
        self._budget = budget
        self._metrics = metrics
        self._failures: dict[str, InfermeshError] = {}
        self._busy_s = _BUSY_MIN_S
        self._had_internal = False
        budget.deposit()

    @property
    def tried(self) -> frozenset[str]:
        """Endpoints not to be tried again."""
        return frozenset(self._failures)

    @property
    def last(self) -> InfermeshError | None:
        """The last failure."""
        return next(reversed(self._failures.values()), None)

    async def after(self, address: str, error: InfermeshError) -> None:
        """Returns when the request may be tried again, elsewhere. Raises the error when it may not."""
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
        """The endpoint's report will say that it is full; until it does the request would be sent there again."""
        await asyncio.sleep(self._busy_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        self._busy_s = min(2 * self._busy_s, _BUSY_MAX_S)
