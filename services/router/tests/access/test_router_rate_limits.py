"""Rate limits: a bucket that is told the time, limits by key, and how headers tell them."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_router.access.rate_limits import KeyUsage, RateLimits, format_duration
from infermesh_router.access.token_bucket import TokenBucket
from infermesh_router.testing.keys import key_of
from infermesh_runtime.api_keys import ApiKey
from infermesh_runtime.errors import ResourceExhausted


@dataclass
class Clock:
    """A time that tests set."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def usage_of(limits: RateLimits, key: ApiKey) -> KeyUsage:
    usage = limits.usage(key)
    assert usage is not None
    return usage


def test_a_bucket_empties_and_fills() -> None:
    bucket = TokenBucket.per_minute(60, 0.0)
    assert bucket.wait_s(60, 0.0) == 0
    bucket.take(60, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(1)
    assert bucket.full_s(0.0) == pytest.approx(60)
    assert bucket.remaining(30.0) == pytest.approx(30)
    assert bucket.remaining(1000.0) == 60


def test_a_correction_can_leave_a_debt_or_give_back() -> None:
    bucket = TokenBucket.per_minute(60, 0.0)
    bucket.take(90, 0.0)
    assert bucket.remaining(0.0) == -30
    assert bucket.wait_s(1, 0.0) == pytest.approx(31)
    bucket.take(-1000, 0.0)
    assert bucket.remaining(0.0) == 60


def test_a_request_larger_than_the_bucket_runs_when_it_is_full() -> None:
    bucket = TokenBucket.per_minute(60, 0.0)
    assert bucket.wait_s(500, 0.0) == 0
    bucket.take(500, 0.0)
    assert bucket.wait_s(500, 0.0) == pytest.approx(500)


def test_a_new_limit_keeps_what_was_used() -> None:
    bucket = TokenBucket.per_minute(60, 0.0)
    bucket.take(50, 0.0)
    bucket.resize(600, 0.0)
    assert bucket.remaining(0.0) == pytest.approx(550)
    bucket.resize(30, 0.0)
    assert bucket.remaining(0.0) == pytest.approx(-20)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40)), max_size=60), st.integers(1, 120))
def test_no_more_is_let_through_than_the_limit_allows(steps: list[tuple[float, int]], limit: int) -> None:
    bucket, now_s, taken = TokenBucket.per_minute(limit, 0.0), 0.0, 0
    for pause_s, amount in steps:
        now_s += pause_s
        if amount <= limit and bucket.wait_s(amount, now_s) == 0:
            bucket.take(amount, now_s)
            taken += amount
        assert taken <= limit * (1 + now_s / 60) + 1e-6


def test_limits_are_by_key_and_say_when_to_retry() -> None:
    clock = Clock()
    limits = RateLimits(share=lambda: 1, clock=clock)
    key, other = key_of("a", requests_per_minute=2), key_of("b", requests_per_minute=2)
    for _ in range(2):
        limits.reserve(usage_of(limits, key).requests, 1, key=key, what="requests")
    with pytest.raises(ResourceExhausted, match="'a' has reached its limit of 2 requests a minute") as caught:
        limits.reserve(usage_of(limits, key).requests, 1, key=key, what="requests")
    assert caught.value.reason == "RATE_LIMIT_EXCEEDED"
    assert caught.value.retry_after_s == pytest.approx(30)
    limits.reserve(usage_of(limits, other).requests, 1, key=other, what="requests")
    clock.now_s += 30
    limits.reserve(usage_of(limits, key).requests, 1, key=key, what="requests")


def test_routers_side_by_side_enforce_a_share_each() -> None:
    limits = RateLimits(share=lambda: 1 / 3, clock=Clock())
    usage = usage_of(limits, key_of("a", requests_per_minute=30, tokens_per_minute=2))
    assert usage.requests is not None
    assert usage.tokens is not None
    assert usage.requests.capacity == pytest.approx(10)
    assert usage.tokens.capacity == 1


def test_a_changed_key_keeps_its_usage_and_a_removed_one_leaves_nothing() -> None:
    limits = RateLimits(share=lambda: 1, clock=Clock())
    key = key_of("a", requests_per_minute=10)
    limits.reserve(usage_of(limits, key).requests, 10, key=key, what="requests")
    raised = usage_of(limits, key_of("a", requests_per_minute=11)).requests
    assert raised is not None
    assert raised.remaining(1000.0) == pytest.approx(1)
    assert usage_of(limits, key_of("a", tokens_per_minute=1)).requests is None
    limits.keep_only([])
    assert not limits._usages
    assert limits.usage(key_of("a")) is None


def test_headers() -> None:
    limits = RateLimits(share=lambda: 1, clock=Clock())
    key = key_of("a", requests_per_minute=60, tokens_per_minute=6000)
    usage = usage_of(limits, key)
    limits.reserve(usage.requests, 1, key=key, what="requests")
    limits.reserve(usage.tokens, 50, key=key, what="tokens")
    assert dict(limits.headers(usage)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5950",
        "x-ratelimit-reset-tokens": "500ms",
    }
    assert limits.headers(None) == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0001, "0s"), (0.12, "120ms"), (1, "1s"), (1.54, "1.5s"), (59.96, "1m0s"), (360, "6m0s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
