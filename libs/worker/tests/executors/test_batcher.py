"""The batcher: every item runs once or is dropped in time, batches keep to their limits, and nobody waits too long."""

from hypothesis import given
from hypothesis import strategies as st

from infermesh_runtime.manifest.model_kind import BatchLimits
from infermesh_worker.executors.batcher import Batcher, Waiting


def item(name: str, *, group: str | None = "g", size: int = 1, at: float = 0.0, **fields: float) -> Waiting:
    return Waiting(request_id=name, group=group, size=size, arrived_s=at, **fields)  # type: ignore[arg-type] # the test knows the fields


def batcher(*items: Waiting, max_size: int = 4, delay_ms: float = 0.0, preferred: tuple[int, ...] = ()) -> Batcher:
    made = Batcher(BatchLimits(max_size=max_size, max_delay_ms=delay_ms, preferred_sizes=preferred))
    for each in items:
        made.add(each)
    return made


def names(items: list[Waiting]) -> list[str]:
    return [each.request_id for each in items]


def test_items_of_a_group_run_together_up_to_the_size() -> None:
    made = batcher(*(item(name) for name in "abcdef"))
    assert names(made.take(0.0)) == list("abcd")
    assert names(made.take(0.0)) == list("ef")
    assert names(made.take(0.0)) == []


def test_groups_do_not_mix_and_items_without_one_run_alone() -> None:
    made = batcher(item("a"), item("b", group="h"), item("c"), item("d", group=None), item("e", group=None))
    assert [names(made.take(0.0)) for _ in range(4)] == [["a", "c"], ["b"], ["d"], ["e"]]


def test_an_item_larger_than_a_batch_runs_alone() -> None:
    made = batcher(item("a", size=9), item("b"))
    assert [names(made.take(0.0)) for _ in range(2)] == [["a"], ["b"]]


def test_a_batch_waits_for_more_until_its_delay_is_over() -> None:
    made = batcher(item("a", at=1.0), item("b", at=1.005), delay_ms=10)
    assert made.take(1.009) == []
    assert made.due_s() == 1.01
    assert names(made.take(1.01)) == ["a", "b"]


def test_a_full_batch_does_not_wait() -> None:
    made = batcher(item("a", size=3), item("b", size=2), delay_ms=1000)
    assert names(made.take(0.0)) == ["a"]
    assert made.take(0.0) == []


def test_a_preferred_size_does_not_wait() -> None:
    made = batcher(*(item(name) for name in "abc"), delay_ms=1000, preferred=(2,))
    assert names(made.take(0.0)) == ["a", "b"]
    assert made.take(0.0) == []


def test_larger_priorities_go_first() -> None:
    made = batcher(item("a"), item("b", priority=5), item("c", group="h", priority=9), max_size=1)
    assert [names(made.take(0.0)) for _ in range(3)] == [["c"], ["b"], ["a"]]


def test_late_and_removed_items_do_not_run() -> None:
    made = batcher(item("a", deadline_s=2.0), item("b"), item("c"), delay_ms=5000)
    assert made.due_s() == 2.0
    assert made.drop_expired(1.9) == []
    assert made.drop_expired(2.0) == ["a"]
    assert made.remove("b")
    assert not made.remove("b")
    assert names(made.take(5.0)) == ["c"]
    assert len(made) == 0


ITEMS = st.lists(
    st.tuples(st.sampled_from(["g", "h", None]), st.integers(1, 6), st.integers(-2, 2), st.integers(0, 30)), max_size=30
)


@given(ITEMS, st.integers(1, 8), st.sampled_from([0.0, 5.0]), st.sets(st.integers(1, 8), max_size=3))
def test_each_item_runs_once_in_a_batch_within_the_limits(
    drawn: list[tuple[str | None, int, int, int]], max_size: int, delay_ms: float, preferred: set[int]
) -> None:
    made = batcher(max_size=max_size, delay_ms=delay_ms, preferred=tuple(preferred))
    coming = [
        item(str(n), group=group, size=size, priority=priority, at=at / 1000)
        for n, (group, size, priority, at) in enumerate(sorted(drawn, key=lambda each: each[3]))
    ]
    ran: list[str] = []
    for now in range(40):
        for each in [each for each in coming if each.arrived_s == now / 1000]:
            made.add(each)
        while batch := made.take(now / 1000):
            assert len({each.group for each in batch}) == 1
            assert len(batch) == 1 or batch[0].group is not None
            assert len(batch) == 1 or sum(each.size for each in batch) <= max_size
            ran += names(batch)
        waiting = made.due_s()
        assert waiting is None or waiting > now / 1000  # what is due has run
    assert sorted(ran, key=int) == [each.request_id for each in coming]
