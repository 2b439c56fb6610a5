"""The order of the queue, and that it keeps nothing of what has left it."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_router.admission.fair_queue import FairQueue, Ticket


def serve(queue: FairQueue[str], without: tuple[object, ...] = ()) -> str:
    ticket = queue.head(without)
    assert ticket is not None
    queue.serve(ticket)
    return ticket.item


def serve_all(queue: FairQueue[str]) -> list[str]:
    return [serve(queue) for _ in range(len(queue))]


def is_empty(queue: FairQueue[str]) -> bool:
    """Whether nothing is kept at all."""
    state = (queue._tickets, queue._bands, queue._flows, queue._heaps, queue._lane_sizes)
    return not len(queue) and not any(state)


def test_resumed_then_priority_then_age() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("late", client="a")
    queue.push("low", client="a", priority=-1)
    queue.push("high", client="a", priority=5)
    queue.push("resumed", client="a", resumed=True)
    queue.push("higher", client="a", priority=6)
    queue.push("last", client="a")
    assert serve_all(queue) == ["resumed", "higher", "high", "late", "last", "low"]
    assert is_empty(queue)


def test_a_client_with_one_request_does_not_wait_for_anothers_hundred() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("a", client="a", cost_tokens=10)
    serve(queue)
    queue.push("b", client="b", cost_tokens=10)
    assert "b" in [serve(queue), serve(queue)]


def test_a_client_that_comes_back_saved_up_no_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("b", client="b", cost_tokens=10)
    serve(queue)
    for _ in range(50):
        queue.push("a", client="a", cost_tokens=10)
    for _ in range(20):
        serve(queue)
    for _ in range(20):
        queue.push("b", client="b", cost_tokens=10)
    served = Counter(serve(queue) for _ in range(20))
    assert served == {"a": 10, "b": 10}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_two_waiting_clients_were_served_differs_by_one_item_of_each(data: st.DataObject) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    costs = {client: data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=40)) for client in "ab"}
    for client, items in costs.items():
        for cost in items:
            queue.push((client, cost), client=client, cost_tokens=cost, lane=data.draw(st.sampled_from([None, "cpu"])))
    served, left = Counter(), {client: len(items) for client, items in costs.items()}
    while all(left.values()):
        client, cost = serve(queue)
        served[client] += cost
        left[client] -= 1
        assert abs(served["a"] - served["b"]) <= max(costs["a"]) + max(costs["b"])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pushes_removals_and_serves_lose_nothing_and_leave_nothing(data: st.DataObject) -> None:
    queue: FairQueue[int] = FairQueue()
    waiting: dict[int, Ticket[int]] = {}
    draw = random.Random(data.draw(st.integers(0, 2**32)))
    for number in range(data.draw(st.integers(1, 300))):
        action = draw.choice(["push", "push", "push", "remove", "serve"])
        if action == "push":
            waiting[number] = queue.push(
                number,
                client=draw.choice("abcdefgh"),
                lane=draw.choice("xyz"),
                priority=draw.choice([0, 0, 0, 1, 2]),
                resumed=draw.random() < 0.1,
                cost_tokens=draw.randint(1, 50),
            )
        elif action == "remove" and waiting:
            queue.remove(waiting.pop(draw.choice(list(waiting))))
        elif action == "serve" and waiting:
            ticket = queue.head()
            assert ticket is not None
            assert ticket.rank == min(t.rank for t in waiting.values())
            queue.serve(ticket)
            del waiting[ticket.item]
        assert len(queue) == len(waiting)
        assert set(queue.lanes) == {t.lane for t in waiting.values()}
        assert queue.oldest is (waiting[min(waiting)] if waiting else None)
    assert sorted(serve_all(queue)) == sorted(waiting)
    assert is_empty(queue)


def test_a_blocked_lane_holds_up_no_other_and_keeps_its_place() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("cpu", client="a", lane="cpu")
    queue.push("gpu", client="a", lane="gpu")
    assert serve(queue, without=("cpu",)) == "gpu"
    assert queue.head(("cpu", "gpu")) is None
    queue.push("gpu2", client="a", lane="gpu")
    assert serve(queue) == "cpu"


def test_removed_in_a_storm_nothing_stays() -> None:
    queue: FairQueue[str] = FairQueue()
    stays = queue.push("stays", client="stays")
    for round_ in range(5):
        tickets = [queue.push("x", client=f"{round_}-{n}") for n in range(1000)]
        for ticket in tickets:
            queue.remove(ticket)
            queue.remove(ticket)
    assert len(queue) == 1
    assert len(queue._heaps[None]) < 200
    assert len(queue._flows) < 200
    queue.serve(stays)
    assert is_empty(queue)


def test_what_served_clients_owe_is_bounded() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("stays", client="stays", lane="blocked")
    for n in range(10_000):
        queue.push("x", client=str(n), cost_tokens=100)
        serve(queue, without=("blocked",))
    (band,) = queue._bands.values()
    assert len(band.levels) < 5000


def test_a_full_queue_gives_up_the_newest_of_the_one_who_has_most() -> None:
    queue: FairQueue[str] = FairQueue()
    for n in range(10):
        queue.push(f"a{n}", client="a")
    queue.push("b0", client="b")
    displaced = queue.find_displaced(client="c", priority=0, resumed=False)
    assert displaced is not None
    assert displaced.item == "a9"
    assert queue.find_displaced(client="a", priority=0, resumed=False) is None
    assert queue.find_displaced(client="c", priority=-1, resumed=False) is None
    higher = queue.find_displaced(client="a", priority=1, resumed=False)
    assert higher is not None
    assert higher.item == "a9"


@pytest.mark.parametrize(("client", "priority", "ahead"), [("a", 0, 11), ("b", 0, 3), ("c", 0, 2), ("c", 1, 0)])
def test_how_many_are_ahead(client: str, priority: int, ahead: int) -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(10):
        queue.push("a", client="a")
    queue.push("b", client="b")
    assert queue.count_ahead(client=client, priority=priority, resumed=False) == ahead
