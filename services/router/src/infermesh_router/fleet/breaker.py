"""Per-endpoint circuit breaker: stops requests to an endpoint that keeps failing."""

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether requests go through."""

    CLOSED = "closed"
    """All do."""
    OPEN = "open"
    """None does."""
    HALF_OPEN = "half_open"
    """One at a time does, to probe whether the endpoint has recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When a breaker opens, and for how long."""

    consecutive_failures: int = 5
    """Failures in a row that open it."""
    failure_rate: float = 0.5
    """Share of failures among recent outcomes above which it opens, in (0, 1]; 1 means never because of the share."""
    min_outcomes: int = 10
    """Fewest recent outcomes for which the share counts."""
    window_s: float = 60.0
    """Outcomes older than this do not count for the share."""
    open_min_s: float = 1.0
    """How long it is open at first; doubled each time a probe fails."""
    open_max_s: float = 30.0
    jitter: float = 0.2
    """The open time varies at random by up to this share, so that routers do not all probe at once."""


class Breaker:
    """The breaker of one endpoint.

    Call `enter` for each request that is sent. Report its outcome with `prove` at its first token and `succeed` or
    `fail` at its end, or with `leave` if the end says nothing about the endpoint (a client's error, a cancel). Each
    takes what `enter` returned: whether the request is the probe of a half-open breaker.
    """

    def __init__(
        self,
        options: BreakerOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        on_change: Callable[[BreakerState], None] = lambda _state: None,
    ) -> None:
        """`draw` gives numbers in [0, 1). `on_change` gets the state when an event changes it or `admits`."""
        self._options = options or BreakerOptions()
        self._clock = clock
        self._draw = draw
        self._on_change = on_change
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=max(20, 2 * self._options.min_outcomes))
        self._failures_in_a_row = 0
        self._open_until_s: float | None = None
        self._open_s = self._options.open_min_s
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """The state now. An open breaker becomes half-open as time passes, without an event."""
        if self._open_until_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._open_until_s else BreakerState.HALF_OPEN

    @property
    def admits(self) -> bool:
        """Whether a request may be sent now."""
        return self._open_until_s is None or (not self._probing and self._clock() >= self._open_until_s)

    @property
    def half_open_in_s(self) -> float:
        """Time until an open breaker becomes half-open; 0 in other states."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - self._clock())

    def enter(self) -> bool:
        """Notes that a request is sent; returns whether it is the probe."""
        if self._open_until_s is None or self._probing or self.state is BreakerState.OPEN:
            return False
        self._probing = True
        self._on_change(BreakerState.HALF_OPEN)
        return True

    def prove(self, *, probe: bool) -> None:
        """Notes the first token of a request; the probe's closes the breaker."""
        if probe and self._probing:
            self._close()

    def succeed(self, *, probe: bool) -> None:
        """Notes that a request ended well."""
        self.prove(probe=probe)
        self._failures_in_a_row = 0
        self._outcomes.append((self._clock(), True))

    def fail(self, *, probe: bool) -> None:
        """Notes that a request failed by the endpoint's fault."""
        if self._open_until_s is not None:
            # requests sent before the breaker opened tell nothing new
            if probe and self._probing:
                self._open_s = min(2 * self._open_s, self._options.open_max_s)
                self._open()
            return
        self._failures_in_a_row += 1
        self._outcomes.append((self._clock(), False))
        if self._failures_in_a_row >= self._options.consecutive_failures or self._rate_is_high():
            self._open()

    def leave(self, *, probe: bool) -> None:
        """Notes an end that says nothing about the endpoint. If it was the probe, the next request is the probe."""
        if probe and self._probing:
            self._probing = False
            self._on_change(self.state)

    def note_reconnect(self) -> None:
        """Makes an open breaker half-open at once: the endpoint is back, perhaps as a new process."""
        if self.state is BreakerState.OPEN:
            self._open_until_s = self._clock()
            self._on_change(BreakerState.HALF_OPEN)

    def _rate_is_high(self) -> bool:
        oldest_s = self._clock() - self._options.window_s
        recent = [ok for when_s, ok in self._outcomes if when_s >= oldest_s]
        allowed = self._options.failure_rate * len(recent)
        return len(recent) >= self._options.min_outcomes and recent.count(False) > allowed

    def _open(self) -> None:
        self._probing = False
        jitter = 1 + self._options.jitter * (2 * self._draw() - 1)
        self._open_until_s = self._clock() + self._open_s * jitter
        self._on_change(BreakerState.OPEN)

    def _close(self) -> None:
        self._probing = False
        self._open_until_s = None
        self._open_s = self._options.open_min_s
        self._failures_in_a_row = 0
        self._outcomes.clear()
        self._on_change(BreakerState.CLOSED)
