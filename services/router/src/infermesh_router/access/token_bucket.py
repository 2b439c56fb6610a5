"""A token bucket that is told the time, and that may be corrected afterwards.

We looked at limits, pyrate-limiter, throttled-py and aiolimiter. All read a clock of their own, and none can take back
a reservation or go into debt when a request turns out to have used more than was reserved.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Holds up to `capacity` and gains `per_s` a second; starts full. Pure: it has no clock."""

    capacity: float
    per_s: float
    level: float
    at_s: float
    """When `level` was true."""

    @classmethod
    def per_minute(cls, limit: float, now_s: float) -> "TokenBucket":
        """A full bucket that allows `limit` a minute, all of it at once if it was not used before."""
        return cls(capacity=limit, per_s=limit / 60, level=limit, at_s=now_s)

    def remaining(self, now_s: float) -> float:
        """How much could be taken now; negative if it is in debt."""
        return min(self.capacity, self.level + (now_s - self.at_s) * self.per_s)

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until `amount` may be taken; 0: now. More than it can hold may be taken when it is full."""
        missing = min(amount, self.capacity) - self.remaining(now_s)
        return max(0.0, missing / self.per_s)

    def take(self, amount: float, now_s: float) -> None:
        """Takes `amount`, whether or not it is there. A negative amount is given back."""
        self.level = min(self.capacity, self.remaining(now_s) - amount)
        self.at_s = now_s

    def full_s(self, now_s: float) -> float:
        """How long until it is full again."""
        return self.wait_s(self.capacity, now_s)

    def resize(self, limit: float, now_s: float) -> None:
        """Changes the limit a minute; what was used stays used."""
        used = self.capacity - self.remaining(now_s)
        self.capacity, self.per_s, self.level, self.at_s = limit, limit / 60, limit - used, now_s
