"""How many sequences may wait."""

import pytest

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.hosting.queue_bound import QueueBound

BOUND = QueueBound(max_running=4, max_waiting=3)


@pytest.mark.parametrize(
    ("sequences", "model", "n"),
    [({}, "a", 4), ({}, "a", 7), ({"a": 4}, "a", 3), ({"a": 7}, "b", 4), ({"a": 3}, "a", 128), ({"a": 100}, "b", 4)],
)
def test_what_may_wait_is_taken(sequences: dict[str, int], model: str, n: int) -> None:
    BOUND.check(sequences, model, n)


@pytest.mark.parametrize(
    ("sequences", "model", "n"),
    [({"a": 7}, "a", 1), ({"a": 4}, "a", 4), ({"a": 7}, "b", 5), ({"a": 4}, "a", 128), ({"a": 100}, "b", 5)],
)
def test_one_more_is_refused(sequences: dict[str, int], model: str, n: int) -> None:
    with pytest.raises(ResourceExhausted) as caught:
        BOUND.check(sequences, model, n)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_s
