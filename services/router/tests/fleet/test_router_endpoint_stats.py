"""The statistics of each endpoint: means of recent requests, and a bound on memory."""

import pytest

from infermesh_router.fleet.endpoint_stats import RECENT, EndpointStats, StatsByAddress


def test_means_are_of_the_last_requests() -> None:
    stats = EndpointStats()
    assert (stats.queued_ms, stats.overhead_ms) == (0.0, 0.0)
    for _ in range(RECENT):
        stats.note_sent(queued_s=1.0, overhead_s=0.001)
    assert (stats.queued_ms, stats.overhead_ms) == pytest.approx((1000.0, 1.0))
    for _ in range(RECENT):
        stats.note_sent(queued_s=0.5, overhead_s=0.002)
    assert (stats.queued_ms, stats.overhead_ms) == pytest.approx((500.0, 2.0))


def test_addresses_that_come_and_go_take_no_more_memory() -> None:
    stats = StatsByAddress(max_addresses=2)
    stats.of("a").failovers = 1
    stats.of("b")
    assert stats.of("a").failovers == 1
    stats.of("c")
    assert stats.of("a").failovers == 1
    stats.of("b").failovers += 1
    assert stats.of("b").failovers == 1
