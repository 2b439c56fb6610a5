"""Limits retries to a share of all requests, so that failing endpoints do not get several times their load.

A token bucket as in Finagle's RetryBudget and gRPC's retry throttling: each request pays in a fraction of a retry, and
a few more are added each second so that a router with little traffic can retry too.
"""

import time
from collections.abc import Callable


class RetryBudget:
    """The retries that may be made now. `deposit` with each request; `withdraw` before each retry or hedge."""

    def __init__(
        self,
        *,
        ratio: float = 0.2,
        per_s: float = 10.0,
        most: float = 100.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ratio`: retries added per request; `per_s`: retries added per second; `most`: how many can be saved up."""
        self._ratio = ratio
        self._per_s = per_s
        self._most = most
        self._clock = clock
        self._balance = most
        self._since_s = clock()

    @property
    def balance(self) -> float:
        """Retries that could be made now."""
        now_s = self._clock()
        return min(self._most, self._balance + (now_s - self._since_s) * self._per_s)

    def deposit(self) -> None:
        """Adds the share of one request."""
        self._set(self.balance + self._ratio)

    def withdraw(self) -> bool:
        """Takes one retry; False if none is left."""
        balance = self.balance
        if balance < 1:
            return False
        self._set(balance - 1)
        return True

    def _set(self, balance: float) -> None:
        self._balance = min(self._most, balance)
        self._since_s = self._clock()
