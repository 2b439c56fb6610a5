"""What the times of streams come to."""

import math

import pytest

from infermesh_client.bench.figures import StreamTimes, percentile, summarise


def test_percentiles_are_of_the_nearest_rank() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert (percentile(hundred, 50), percentile(hundred, 99), percentile([7.0], 99)) == (50, 99, 7)
    assert math.isnan(percentile([], 50))


def test_failed_streams_only_count() -> None:
    whole = StreamTimes(arrivals_s=[0.1, 0.3, 0.4], tokens=4)
    failed = StreamTimes(arrivals_s=[9.0, 99.0], tokens=50, error="broke off")
    level = summarise(2, [whole, failed, StreamTimes(error="broke off"), StreamTimes(error="503: full")], 2.0)
    assert (level.requests, level.errors, level.tokens, level.tokens_per_s) == (4, 3, 4, 2)
    assert (level.ttft_ms_p50, level.ttft_ms_p99) == pytest.approx((100, 100))
    assert (level.itl_ms_p50, level.itl_ms_p99) == pytest.approx((100, 200))
    assert (level.tpot_ms_p50, level.tpot_ms_p99) == pytest.approx((100, 100))
    assert level.error == "broke off"


def test_what_was_not_measured_is_null_in_json() -> None:
    row = summarise(1, [StreamTimes(error="no")], 1.0).row()
    assert (row["ttft_ms_p50"], row["itl_ms_p99"], row["tokens_per_s"]) == (None, None, 0)


def test_time_per_token_is_that_of_tokens_and_not_of_pieces() -> None:
    pieces = StreamTimes(arrivals_s=[0.5, 0.6, 0.7], tokens=5)
    assert pieces.tpot_s == pytest.approx(0.05)
    for none in (StreamTimes(arrivals_s=[0.5], tokens=5), StreamTimes(arrivals_s=[0.5, 0.6], tokens=1), StreamTimes()):
        assert math.isnan(none.tpot_s)
    assert math.isnan(summarise(1, [StreamTimes(arrivals_s=[0.5], tokens=1)], 1.0).tpot_ms_p50)
