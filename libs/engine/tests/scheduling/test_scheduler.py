"""Which sequences a step runs, whom it preempts, and how it recovers from full memory."""

from collections.abc import Callable
from typing import Any

import pytest

from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.step_budget import RECOVERY_STEPS

BLOCK = 4
Make = Callable[..., Sequence]


def scheduler(num_blocks: int = 64, *, prefix_caching: bool = True, **limits: Any) -> Scheduler:
    cache = KvCache(num_blocks=num_blocks, block_size=BLOCK, prefix_caching=prefix_caching)
    return Scheduler(cache, **{"max_sequences": 8, "max_batched_tokens": 64, **limits})


def run(scheduler: Scheduler) -> Plan:
    """One step in which every sampled sequence gets token 0."""
    plan = scheduler.schedule()
    sampled = plan.sampled
    scheduler.commit(plan)
    for sequence in sampled:
        sequence.append(0)
    return plan


def shape(plan: Plan) -> tuple[list[str], list[tuple[str, int]]]:
    return [s.request_id for s in plan.decodes], [(c.sequence.request_id, c.tokens) for c in plan.prefills]


def prompt(start: int, tokens: int) -> tuple[int, ...]:
    return tuple(range(start, start + tokens))


def test_decodes_come_first_and_prefills_share_the_rest(make_sequence: Make) -> None:
    s = scheduler(max_batched_tokens=10)
    s.add(make_sequence(prompt(0, 4), request_id="a", arrival=1))
    s.add(make_sequence(prompt(10, 9), request_id="b", arrival=2))
    s.add(make_sequence(prompt(20, 9), request_id="c", arrival=3))
    assert shape(run(s)) == ([], [("a", 4), ("b", 6)])
    assert s.waiting_tokens == 3 + 9
    assert shape(run(s)) == (["a"], [("b", 3), ("c", 6)])
    assert shape(run(s)) == (["a", "b"], [("c", 3)])
    assert shape(run(s)) == (["a", "b", "c"], [])
    assert (s.running, s.waiting, s.waiting_tokens) == (3, 0, 0)


def test_priority_then_arrival(make_sequence: Make) -> None:
    s = scheduler(max_sequences=1)
    for name, arrival, priority in (("late", 3, 0), ("early", 1, 0), ("urgent", 4, 5)):
        s.add(make_sequence((arrival, 2, 3), request_id=name, arrival=arrival, priority=priority))
    served = []
    while s.has_work:
        (chunk,) = run(s).prefills
        served.append(chunk.sequence.request_id)
        s.remove(chunk.sequence)
    assert served == ["urgent", "early", "late"]


def test_the_one_served_last_is_preempted_and_comes_back(make_sequence: Make) -> None:
    s = scheduler(num_blocks=4, prefix_caching=False)
    first = make_sequence(prompt(0, 4), request_id="first", arrival=1)
    last = make_sequence(prompt(9, 7), request_id="last", arrival=2)
    s.add(first)
    s.add(last)
    while not s.preemptions:
        run(s)
    assert s.running == s.waiting == 1
    assert (len(last.blocks), last.computed, last.num_tokens) == (0, 0, 9)
    assert s.waiting_tokens == 9
    s.remove(first)
    assert shape(run(s)) == ([], [("last", 9)])


def test_who_came_late_but_is_urgent_is_not_the_one_preempted(make_sequence: Make) -> None:
    s = scheduler(num_blocks=5, prefix_caching=False)
    s.add(make_sequence(prompt(0, 4), request_id="early", arrival=1))
    run(s)
    s.add(make_sequence(prompt(9, 6), request_id="urgent", arrival=2, priority=1))
    while not s.preemptions:
        plan = run(s)
    assert shape(plan) == (["urgent"], [])


def test_tokens_that_are_expected_in_the_cache_do_not_wait(make_sequence: Make) -> None:
    """A sequence that loses its blocks has all its tokens computed again."""
    s = scheduler(num_blocks=8)
    s.add(make_sequence(prompt(0, 9), request_id="before"))
    s.remove(run(s).prefills[0].sequence)
    again = make_sequence(prompt(0, 9), request_id="again", arrival=2)
    s.add(make_sequence(prompt(50, 9), request_id="other", arrival=1))
    s.add(again)
    assert s.waiting_tokens == 9 + 1
    while not s.preemptions:
        run(s)
    assert s.cached_tokens == again.cached_tokens == 8
    assert s.looked_up_tokens == 27
    assert s.waiting_tokens == again.num_tokens
    s.remove(next(iter(run(s).decodes)))
    while again.blocks.view.size == 0:
        run(s)
    assert s.cached_tokens == again.cached_tokens == 8


def test_admission_waits_for_headroom(make_sequence: Make) -> None:
    s = scheduler(num_blocks=4)
    s.add(make_sequence(prompt(0, 8), request_id="a", arrival=1))
    s.add(make_sequence(prompt(50, 8), request_id="b", arrival=2))
    assert shape(run(s)) == ([], [("a", 8)])
    assert s.waiting == 1


def test_a_refused_sequence_is_tried_again_when_blocks_are_released(make_sequence: Make) -> None:
    s = scheduler(num_blocks=4)
    a = make_sequence(prompt(0, 8), request_id="a", arrival=1)
    s.add(a)
    s.add(make_sequence(prompt(50, 8), request_id="b", arrival=2))
    run(s)
    assert shape(run(s)) == (["a"], [])
    s.remove(a)
    assert shape(run(s)) == ([], [("b", 8)])


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_followers_wait_for_the_prompt_and_share_it(make_sequence: Make, prefix_caching: bool) -> None:
    s = scheduler(prefix_caching=prefix_caching, max_batched_tokens=8)
    leader, *followers = (make_sequence(prompt(0, 13), choice=i, prefix_root=bytes(16)) for i in range(3))
    leader.followers = followers
    s.add(leader)
    assert s.waiting == 3
    assert s.waiting_tokens == 13 + 1 + 1
    assert shape(run(s)) == ([], [("a", 8)])
    assert s.waiting == 2
    assert shape(run(s)) == ([], [("a", 5)])
    assert s.waiting == 2
    assert shape(run(s)) == (["a"], [("a", 1), ("a", 1)])
    assert all(f.blocks.view[:3].tolist() == leader.blocks.view[:3].tolist() for f in followers)
    assert s.cached_tokens == (24 if prefix_caching else 0)


def test_removing_a_leader_forgets_its_followers(make_sequence: Make) -> None:
    s = scheduler()
    leader = make_sequence(prompt(0, 5))
    leader.followers = [make_sequence(prompt(0, 5), choice=1)]
    s.add(leader)
    s.remove(leader)
    assert not s.has_work
    assert s.waiting == s.waiting_tokens == 0


def test_a_plan_can_be_made_again_before_it_is_committed(make_sequence: Make) -> None:
    s = scheduler(max_batched_tokens=10)
    for i in range(3):
        s.add(make_sequence(prompt(10 * i, 5), request_id=str(i), arrival=i))
    run(s)
    assert shape(s.schedule()) == shape(s.schedule())


def test_shrinking_halves_prefills_then_decodes_then_gives_one_up(make_sequence: Make) -> None:
    s = scheduler()
    for i in range(4):
        s.add(make_sequence(prompt(10 * i, 5), request_id=str(i), arrival=i))
    assert s.schedule().prefill_tokens == 20
    assert s.shrink(s.schedule()) is None
    assert shape(run(s)) == ([], [("0", 5), ("1", 5)])
    plan = s.schedule()
    assert shape(plan) == (["0", "1"], [("2", 5), ("3", 3)])
    tokens = [10]
    while (too_large := s.shrink(plan)) is None:
        plan = s.schedule()
        tokens.append(len(plan.decodes) + plan.prefill_tokens)
    assert tokens == [10, 6, 4, 3, 2, 1]
    assert too_large.request_id == "0"


def test_after_one_was_given_up_the_others_have_the_whole_budget_again(make_sequence: Make) -> None:
    s = scheduler()
    for i in range(2):
        s.add(make_sequence(prompt(10 * i, 5), request_id=str(i), arrival=i))
    while (too_large := s.shrink(s.schedule())) is None:
        pass
    s.remove(too_large)
    assert shape(run(s)) == ([], [("1", 5)])


def test_the_budget_recovers(make_sequence: Make) -> None:
    s = scheduler()
    for i in range(4):
        s.add(make_sequence(prompt(10 * i, 5), request_id=str(i), arrival=i))
    for _ in range(4):
        run(s)
    s.shrink(s.schedule())
    for _ in range(RECOVERY_STEPS - 1):
        assert len(run(s).decodes) == 2
    s.shrink(s.schedule())
    for _ in range(RECOVERY_STEPS):
        assert len(run(s).decodes) == 1
    assert len(run(s).decodes) == 2


def test_a_first_chunk_is_not_shorter_than_the_runner_wants(make_sequence: Make) -> None:
    s = scheduler(max_batched_tokens=6, min_run_tokens=2)
    s.add(make_sequence(prompt(0, 5), request_id="a", arrival=1))
    s.add(make_sequence(prompt(10, 5), request_id="b", arrival=2))
    assert shape(run(s)) == ([], [("a", 5)])
    assert shape(run(s)) == (["a"], [("b", 5)])


@pytest.mark.parametrize("tokens", [1, 5])
def test_a_budget_below_the_shortest_run_still_admits(make_sequence: Make, tokens: int) -> None:
    s = scheduler(max_sequences=1, max_batched_tokens=1, min_run_tokens=2)
    s.add(make_sequence(prompt(0, tokens)))
    assert shape(run(s)) == ([], [("a", min(tokens, 2))])


def test_no_work_is_an_empty_plan() -> None:
    assert scheduler().schedule() == Plan([], [])


def test_followers_of_a_leader_preempted_before_its_plan_was_settled_are_queued(make_sequence: Make) -> None:
    s = scheduler()
    leader = make_sequence(prompt(0, 6), request_id="a", choice=0)
    leader.followers = [make_sequence(prompt(0, 6), request_id="a", choice=1)]
    s.add(leader)
    plan = s.schedule()
    completed = plan.sampled
    s.advance(plan)
    s.revoke(plan)  # as a later plan may preempt it
    assert (s.running, s.waiting, leader.computed) == (0, 2, 0)
    s.settle(plan, completed)
    assert leader.followers == []
    assert (s.running, s.waiting) == (0, 2)
    s.remove(leader)
    assert shape(s.schedule()) == ([], [("a", 6)])
