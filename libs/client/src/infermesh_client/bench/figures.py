"""What the times of many streams come to: percentiles, rates and errors."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTimes:
    """One stream, with times in seconds since it was asked for."""

    arrivals_s: Sequence[float] = ()
    """When each piece of text came."""
    tokens: int = 0
    """As the server counts them; pieces of text, if it does not."""
    counted: bool = True
    """Whether the server counted them."""
    error: str = ""
    """Why there is no answer, or no whole one; empty if there is."""

    @property
    def tpot_s(self) -> float:
        """Seconds a token after the first one; NaN if there is one token, or all came in one piece."""
        if self.tokens < 2 or len(self.arrivals_s) < 2:
            return math.nan
        return (self.arrivals_s[-1] - self.arrivals_s[0]) / (self.tokens - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What was measured with one number of streams at once. Times are NaN where nothing was measured."""

    streams: int
    requests: int
    errors: int
    tokens: int
    wall_s: float
    tokens_per_s: float
    """Of all streams together."""
    ttft_ms_p50: float
    ttft_ms_p99: float
    itl_ms_p50: float
    """Between two pieces of text of one stream, which are one token each on most servers."""
    itl_ms_p99: float
    tpot_ms_p50: float
    """Of each stream: from its first piece to its last, divided by the tokens after the first."""
    tpot_ms_p99: float
    counted: bool = True
    """Whether the server said how many tokens it made; otherwise pieces of text are counted."""
    error: str = ""
    """The most frequent error."""

    def row(self) -> dict[str, Any]:
        """As a dictionary for JSON, which has no NaN."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else _rounded(value)
            for name, value in asdict(self).items()
        }


def summarise(streams: int, times: Sequence[StreamTimes], wall_s: float) -> Level:
    """What the streams come to, of which `streams` ran at once, for `wall_s` seconds in all. Failed ones only count."""
    whole = [each for each in times if not each.error]
    errors = Counter(each.error for each in times if each.error)
    first = [each.arrivals_s[0] * 1e3 for each in whole if each.arrivals_s]
    gaps = [
        (later - earlier) * 1e3
        for each in whole
        for earlier, later in zip(each.arrivals_s, each.arrivals_s[1:], strict=False)
    ]
    each_token = [each.tpot_s * 1e3 for each in whole if not math.isnan(each.tpot_s)]
    tokens = sum(each.tokens for each in whole)
    return Level(
        streams=streams,
        requests=len(times),
        errors=sum(errors.values()),
        tokens=tokens,
        wall_s=wall_s,
        tokens_per_s=tokens / wall_s if wall_s > 0 else math.nan,
        ttft_ms_p50=percentile(first, 50),
        ttft_ms_p99=percentile(first, 99),
        itl_ms_p50=percentile(gaps, 50),
        itl_ms_p99=percentile(gaps, 99),
        tpot_ms_p50=percentile(each_token, 50),
        tpot_ms_p99=percentile(each_token, 99),
        counted=all(each.counted for each in whole),
        error=errors.most_common(1)[0][0] if errors else "",
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of a hundred are not above (nearest rank); NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
