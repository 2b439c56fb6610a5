"""The order of the queue, and that it keeps nothing of what has left it."""

import itertools
import random
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_router.admission.fair_queue import FairQueue


@dataclass(frozen=True, eq=False)
class Item:
    """Something that waits."""

    name: str
    client: str
    member: str = ""
    lane: Hashable = None
    priority: int = 0
    resumed: bool = False
    cost_tokens: float = 1.0
    arrival: int = field(default_factory=itertools.count().__next__)


def push(queue: FairQueue[Item], name: str, **fields: Any) -> Item:
    item = Item(name, **fields)
    queue.push(item)
    return item


def serve_item(queue: FairQueue[Item], without: tuple[object, ...] = ()) -> Item:
    item = queue.head(without)
    assert item is not None
    queue.serve(item)
    return item


def serve(queue: FairQueue[Item], without: tuple[object, ...] = ()) -> str:
    return serve_item(queue, without).name


def serve_all(queue: FairQueue[Item]) -> list[str]:
    return [serve(queue) for _ in range(len(queue))]


def rank(item: Item) -> tuple[bool, int]:
    return (not item.resumed, -item.priority)


def is_empty(queue: FairQueue[Item]) -> bool:
    """Whether nothing is kept at all."""
    state = (queue._items, queue._bands, queue._flows, queue._heaps, queue._lane_sizes)
    return not len(queue) and not any(state)


def test_resumed_then_priority_then_age() -> None:
    queue: FairQueue[Item] = FairQueue()
    push(queue, "late", client="a")
    push(queue, "low", client="a", priority=-1)
    push(queue, "high", client="a", priority=5)
    push(queue, "resumed", client="a", resumed=True)
    push(queue, "higher", client="a", priority=6)
    push(queue, "last", client="a")
    assert serve_all(queue) == ["resumed", "higher", "high", "late", "last", "low"]
    assert is_empty(queue)


def test_a_client_with_one_request_does_not_wait_for_anothers_hundred() -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(100):
        push(queue, "a", client="a", cost_tokens=10)
    serve(queue)
    push(queue, "b", client="b", cost_tokens=10)
    assert "b" in [serve(queue), serve(queue)]


def test_a_client_that_comes_back_saved_up_no_turns() -> None:
    queue: FairQueue[Item] = FairQueue()
    push(queue, "b", client="b", cost_tokens=10)
    serve(queue)
    for _ in range(50):
        push(queue, "a", client="a", cost_tokens=10)
    for _ in range(20):
        serve(queue)
    for _ in range(20):
        push(queue, "b", client="b", cost_tokens=10)
    served = Counter(serve(queue) for _ in range(20))
    assert served == {"a": 10, "b": 10}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_two_waiting_clients_were_served_differs_by_one_item_of_each(data: st.DataObject) -> None:
    queue: FairQueue[Item] = FairQueue()
    costs = {client: data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=40)) for client in "ab"}
    for client, items in costs.items():
        for cost in items:
            push(queue, client, client=client, cost_tokens=cost, lane=data.draw(st.sampled_from([None, "cpu"])))
    served: Counter[str] = Counter()
    left = {client: len(items) for client, items in costs.items()}
    while all(left.values()):
        item = serve_item(queue)
        served[item.client] += int(item.cost_tokens)
        left[item.client] -= 1
        assert abs(served["a"] - served["b"]) <= max(costs["a"]) + max(costs["b"])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pushes_removals_and_serves_lose_nothing_and_leave_nothing(data: st.DataObject) -> None:
    queue: FairQueue[Item] = FairQueue()
    waiting: dict[int, Item] = {}
    draw = random.Random(data.draw(st.integers(0, 2**32)))
    for number in range(data.draw(st.integers(1, 300))):
        action = draw.choice(["push", "push", "push", "remove", "serve"])
        if action == "push":
            waiting[number] = push(
                queue,
                str(number),
                client=draw.choice("abcdefgh"),
                lane=draw.choice("xyz"),
                priority=draw.choice([0, 0, 0, 1, 2]),
                resumed=draw.random() < 0.1,
                cost_tokens=draw.randint(1, 50),
            )
        elif action == "remove" and waiting:
            queue.remove(waiting.pop(draw.choice(list(waiting))))
        elif action == "serve" and waiting:
            item = serve_item(queue)
            assert rank(item) == min(rank(other) for other in waiting.values())
            del waiting[int(item.name)]
        assert len(queue) == len(waiting)
        assert set(queue.lanes) == {item.lane for item in waiting.values()}
        assert queue.oldest is (waiting[min(waiting)] if waiting else None)
    assert sorted(map(int, serve_all(queue))) == sorted(waiting)
    assert is_empty(queue)


def test_a_blocked_lane_holds_up_no_other_and_keeps_its_place() -> None:
    queue: FairQueue[Item] = FairQueue()
    push(queue, "cpu", client="a", lane="cpu")
    push(queue, "gpu", client="a", lane="gpu")
    assert serve(queue, without=("cpu",)) == "gpu"
    assert queue.head(("cpu", "gpu")) is None
    push(queue, "gpu2", client="a", lane="gpu")
    assert serve(queue) == "cpu"


def test_removed_in_a_storm_nothing_stays() -> None:
    queue: FairQueue[Item] = FairQueue()
    stays = push(queue, "stays", client="stays")
    for round_ in range(5):
        items = [push(queue, "x", client=f"{round_}-{n}") for n in range(1000)]
        for item in items:
            queue.remove(item)
            queue.remove(item)
    assert len(queue) == 1
    assert len(queue._heaps[None]) < 200
    assert len(queue._flows) < 200
    queue.serve(stays)
    assert is_empty(queue)


def test_what_served_clients_owe_is_bounded() -> None:
    queue: FairQueue[Item] = FairQueue()
    push(queue, "stays", client="stays", lane="blocked")
    for n in range(10_000):
        push(queue, "x", client=str(n), cost_tokens=100)
        serve(queue, without=("blocked",))
    (band,) = queue._bands.values()
    assert len(band.levels) < 5000


def test_a_full_queue_gives_up_the_newest_of_the_one_who_has_most() -> None:
    queue: FairQueue[Item] = FairQueue()
    for n in range(10):
        push(queue, f"a{n}", client="a")
    push(queue, "b0", client="b")
    displaced = queue.find_displaced(Item("new", client="c", priority=0))
    assert displaced is not None
    assert displaced.name == "a9"
    assert queue.find_displaced(Item("new", client="a", priority=0)) is None
    assert queue.find_displaced(Item("new", client="c", priority=-1)) is None
    higher = queue.find_displaced(Item("new", client="a", priority=1))
    assert higher is not None
    assert higher.name == "a9"


@pytest.mark.parametrize(("client", "priority", "ahead"), [("a", 0, 11), ("b", 0, 3), ("c", 0, 2), ("c", 1, 0)])
def test_how_many_are_ahead(client: str, priority: int, ahead: int) -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(10):
        push(queue, "a", client="a")
    push(queue, "b", client="b")
    assert queue.count_ahead(Item("new", client=client, priority=priority)) == ahead


def test_a_client_gains_nothing_by_naming_many_members() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(50):
        push(queue, "a", client="a", member=f"user-{number}")
        push(queue, "b", client="b")
    served = [serve(queue) for _ in range(40)]
    assert abs(served.count("a") - served.count("b")) <= 1


def test_members_divide_their_clients_share() -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(30):
        push(queue, "many", client="a", member="many")
    for _ in range(10):
        push(queue, "large", client="a", member="large", cost_tokens=3)
        push(queue, "small", client="a", member="small")
    served = Counter(serve(queue) for _ in range(21))
    assert served == {"many": 9, "small": 9, "large": 3}
    serve_all(queue)
    assert is_empty(queue)


def test_a_member_that_comes_back_saved_up_no_turns() -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(40):
        push(queue, "old", client="a", member="old")
    for _ in range(20):
        serve(queue)
    for _ in range(20):
        push(queue, "new", client="a", member="new")
    assert Counter(serve(queue) for _ in range(10)) == {"old": 5, "new": 5}


def test_members_that_were_served_are_forgotten() -> None:
    queue: FairQueue[Item] = FairQueue()
    push(queue, "stays", client="a", member="stays", cost_tokens=1e9)
    push(queue, "stays", client="a", member="stays", cost_tokens=1e9)
    for number in range(5000):
        push(queue, "a", client="a", member=f"user-{number}")
        serve(queue)
    (flow,) = queue._flows.values()
    assert len(flow.turns._levels) < 1100
