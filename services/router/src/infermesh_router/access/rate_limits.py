"""Counts the requests and tokens of each key against its limits, and tells them in OpenAI's headers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from infermesh_router.access.token_bucket import TokenBucket
from infermesh_runtime.api_keys import ApiKey
from infermesh_runtime.errors import ResourceExhausted

Headers = tuple[tuple[str, str], ...]
RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"


@dataclass(slots=True)
class KeyUsage:
    """What one key has left; None where it has no limit."""

    requests: TokenBucket | None = None
    tokens: TokenBucket | None = None


class RateLimits:
    """The usage of every key that has limits. Kept in this router's memory; `share` is its present part of a limit.

    Routers side by side do not tell each other what they counted: that would cost a request a round trip, or be late.
    Each enforces an equal share instead, which is exact if the load is spread evenly, and never allows more in all.
    """

    def __init__(self, *, share: Callable[[], float], clock: Callable[[], float]) -> None:
        """`clock` is a monotonic time in seconds."""
        self._share = share
        self._clock = clock
        self._usages: dict[str, KeyUsage] = {}

    def usage(self, key: ApiKey) -> KeyUsage | None:
        """The key's usage under its present limits; None if it has none."""
        if key.requests_per_minute is None and key.tokens_per_minute is None:
            return None
        usage = self._usages.setdefault(key.sha256, KeyUsage())
        usage.requests = self._fit(usage.requests, key.requests_per_minute)
        usage.tokens = self._fit(usage.tokens, key.tokens_per_minute)
        return usage

    def keep_only(self, keys: Iterable[ApiKey]) -> None:
        """Forgets the usage of all other keys."""
        kept = {key.sha256 for key in keys}
        self._usages = {sha256: usage for sha256, usage in self._usages.items() if sha256 in kept}

    def reserve(self, bucket: TokenBucket | None, amount: float, *, key: ApiKey, what: str) -> None:
        """Takes `amount`. Raises ResourceExhausted if that is more than is left."""
        if bucket is None:
            return
        now_s = self._clock()
        wait_s = bucket.wait_s(amount, now_s)
        if wait_s > 0:
            raise ResourceExhausted(
                f"The API key '{key.name}' has reached its limit of {bucket.capacity:g} {what} a minute. "
                f"Retry in {wait_s:.1f} s.",
                reason=RATE_LIMIT_EXCEEDED,
                metadata={"limit": what},
                retry_after_s=wait_s,
            )
        bucket.take(amount, now_s)

    def correct(self, bucket: TokenBucket | None, amount: float) -> None:
        """Takes `amount` after the fact; gives it back if it is negative."""
        if bucket is not None:
            bucket.take(amount, self._clock())

    def headers(self, usage: KeyUsage | None) -> Headers:
        """OpenAI's x-ratelimit-* headers; none for a key without limits."""
        if usage is None:
            return ()
        return (*self._describe("requests", usage.requests), *self._describe("tokens", usage.tokens))

    def _describe(self, what: str, bucket: TokenBucket | None) -> Headers:
        if bucket is None:
            return ()
        now_s = self._clock()
        return (
            (f"x-ratelimit-limit-{what}", str(int(bucket.capacity))),
            (f"x-ratelimit-remaining-{what}", str(max(0, int(bucket.remaining(now_s))))),
            (f"x-ratelimit-reset-{what}", format_duration(bucket.full_s(now_s))),
        )

    def _fit(self, bucket: TokenBucket | None, limit: int | None) -> TokenBucket | None:
        if limit is None:
            return None
        mine = max(1.0, limit * self._share())
        if bucket is None:
            return TokenBucket.per_minute(mine, self._clock())
        if bucket.capacity != mine:
            bucket.resize(mine, self._clock())
        return bucket


def format_duration(seconds: float) -> str:
    """A duration as OpenAI's headers give it: "0s", "120ms", "1.5s", "6m0s"."""
    if seconds < 1:
        milliseconds = round(seconds * 1000)
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:g}s"
