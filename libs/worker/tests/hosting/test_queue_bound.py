"""How many sequences a model accepts."""

import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.hosting.queue_bound import QueueBound

BOUND = QueueBound(max_running=4, max_waiting=3)


@pytest.mark.parametrize(("sequences", "n"), [(0, 4), (0, 7), (4, 3), (6, 1), (3, 128)])
def test_what_may_wait_is_taken(sequences: int, n: int) -> None:
    BOUND.check(sequences, "a", n)


@pytest.mark.parametrize(("sequences", "n"), [(7, 1), (4, 4), (4, 128), (100, 1)])
def test_one_more_is_refused(sequences: int, n: int) -> None:
    with pytest.raises(ResourceExhausted) as caught:
        BOUND.check(sequences, "a", n)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_s
