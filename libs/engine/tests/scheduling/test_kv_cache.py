"""Block tables and the prefix cache."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_engine.requests.request import GenerationRequest, StopConditions
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.sequence import Sequence

BLOCK = 4
Make = Callable[..., Sequence]


def computed(cache: KvCache, sequence: Sequence) -> Sequence:
    """Admits the sequence and computes all its tokens."""
    cache.allocate(sequence, cache.match(sequence))
    sequence.computed = sequence.num_tokens
    cache.publish(sequence)
    return sequence


def test_a_prefix_is_shared_by_full_blocks_only(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=16, block_size=BLOCK, prefix_caching=True)
    first = computed(cache, make_sequence(tuple(range(11))))
    second = make_sequence((*range(10), 99, 98))
    prefix = cache.match(second)
    assert prefix == first.blocks.view[:2].tolist()
    cache.allocate(second, prefix)
    assert second.computed == 8
    assert second.blocks.view[:2].tolist() == prefix
    assert set(second.blocks.view[2:].tolist()).isdisjoint(first.blocks.view.tolist())
    assert [cache.pool.references(block) for block in prefix] == [2, 2]


def test_the_last_token_is_always_computed(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=16, block_size=BLOCK, prefix_caching=True)
    computed(cache, make_sequence(tuple(range(8))))
    again = make_sequence(tuple(range(8)))
    cache.allocate(again, cache.match(again))
    assert again.computed == 4
    assert again.pending == 4


def test_equal_tokens_after_different_ones_are_not_shared(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=16, block_size=BLOCK, prefix_caching=True)
    computed(cache, make_sequence((1, 1, 1, 1, 7, 7, 7, 7, 0)))
    assert cache.match(make_sequence((2, 2, 2, 2, 7, 7, 7, 7, 0))) == []


def test_generated_blocks_are_cached_too(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=16, block_size=BLOCK, prefix_caching=True)
    sequence = make_sequence((1, 2, 3))
    cache.allocate(sequence, [])
    for token in (4, 5, 6, 7, 8):
        sequence.append(token)
    cache.grow(sequence)
    sequence.computed = 8
    cache.publish(sequence)
    cache.free(sequence)
    assert len(cache.match(make_sequence((1, 2, 3, 4, 5, 6, 7, 8, 9)))) == 2


def test_freed_prefixes_are_evicted_from_their_end(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=4, block_size=BLOCK, prefix_caching=True)
    cache.free(computed(cache, make_sequence(tuple(range(16)))))
    assert (cache.pool.cached, cache.pool.free) == (4, 0)
    cache.allocate(make_sequence((50, 51, 52)), [])
    assert len(cache.match(make_sequence((*range(16), 0)))) == 3


def test_without_prefix_caching_blocks_are_shared_only_while_referenced(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=16, block_size=BLOCK, prefix_caching=False)
    root = cache.prefix_root("a", has_siblings=True)
    first = computed(cache, make_sequence(tuple(range(9)), prefix_root=root))
    sibling = make_sequence(tuple(range(9)), prefix_root=root, choice=1)
    stranger = make_sequence(tuple(range(9)), prefix_root=cache.prefix_root("b", has_siblings=True))
    alone = make_sequence(tuple(range(9)), prefix_root=cache.prefix_root("c", has_siblings=False))
    assert [len(cache.match(s)) for s in (sibling, stranger, alone)] == [2, 0, 0]
    cache.free(first)
    assert cache.match(sibling) == []
    assert cache.pool.free == 16


def test_can_allocate_counts_matched_cached_blocks_once(make_sequence: Make) -> None:
    cache = KvCache(num_blocks=4, block_size=BLOCK, prefix_caching=True)
    cache.free(computed(cache, make_sequence(tuple(range(8)))))
    longer = make_sequence(tuple(range(16)))
    prefix = cache.match(longer)
    assert len(prefix) == 2
    assert cache.can_allocate(longer, prefix, headroom_blocks=0)
    assert not cache.can_allocate(longer, prefix, headroom_blocks=1)
    assert not cache.can_allocate(make_sequence(tuple(range(17))), prefix, headroom_blocks=0)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), prefix_caching=st.booleans())
def test_blocks_add_up_whatever_is_done(make_sequence: Make, data: st.DataObject, prefix_caching: bool) -> None:
    cache = KvCache(num_blocks=8, block_size=BLOCK, prefix_caching=prefix_caching)
    live: list[Sequence] = []
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["allocate", "append", "free"]))
        if action == "allocate":
            prompt = tuple(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=14)))
            sequence = make_sequence(prompt, prefix_root=cache.prefix_root("a", has_siblings=True))
            if cache.can_allocate(sequence, cache.match(sequence), headroom_blocks=0):
                live.append(computed(cache, sequence))
        elif action == "append" and live:
            sequence = data.draw(st.sampled_from(live))
            if sequence.computed < sequence.capacity or cache.can_grow():
                if sequence.computed == sequence.capacity:
                    cache.grow(sequence)
                sequence.append(data.draw(st.integers(0, 1)))
                sequence.computed += 1
                cache.publish(sequence)
        elif live:
            cache.free(live.pop(data.draw(st.integers(0, len(live) - 1))))
        holders: dict[int, set[tuple[int, ...]]] = {}
        for sequence in live:
            for index, block in enumerate(sequence.blocks.view.tolist()):
                holders.setdefault(block, set()).add(tuple(sequence.tokens.view[: (index + 1) * BLOCK].tolist()))
        assert cache.pool.referenced == len(holders)
        assert all(len(contents) == 1 for contents in holders.values()), "a block is shared by different prefixes"
        assert cache.pool.free + cache.pool.cached + cache.pool.referenced == 8
    for sequence in live:
        cache.free(sequence)
    assert cache.usage == pytest.approx(0)


def test_a_salt_decides_with_whom_prefixes_are_shared(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    stop, prompt = StopConditions(max_tokens=1, ignore_eos=True), tuple(range(20))
    for name, salt, cached in (("a", "s", 0), ("b", "", 0), ("c", "t", 0), ("d", "s", 16), ("e", "", 16)):
        request = GenerationRequest(request_id=name, prompt_token_ids=prompt, seed=1, stop=stop, cache_salt=salt)
        assert bench.finish(request)[name, 0].finished.cached_tokens == cached
