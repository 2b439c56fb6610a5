"""Estimates which prompt blocks each endpoint's prefix cache holds.

We assume that an endpoint holds the blocks of the prompts we sent to it, and drops the least recently used ones when
its KV cache is full, as the worker's own cache does.
"""

from collections import OrderedDict
from collections.abc import Sequence

from infermesh_router.policy.prefix.prefix_hash import block_tokens, prefix_tokens

DEFAULT_CAPACITY_TOKENS = 32_768
"""Assumed size of the cache of an endpoint that does not report one."""
_FEWEST_CAPACITY_TOKENS = 1024
_MOST_HOLDERS = 128
"""Most endpoints recorded for one block: a prefix that so many hold is easy to find anyway."""


class _Cache:
    """The blocks that one endpoint probably holds, least recently used first."""

    def __init__(self) -> None:
        self.blocks: OrderedDict[int, int] = OrderedDict()
        """Block hash → tokens."""
        self.tokens = 0


class PrefixIndex:
    """Block hash → the endpoints that probably hold it. `note` and `forget` change it; `find` does not."""

    def __init__(self, limit_blocks: int = 400_000) -> None:
        self._limit_blocks = limit_blocks
        self._caches: OrderedDict[str, _Cache] = OrderedDict()
        self._holders: dict[int, set[str]] = {}
        self._blocks = 0

    def __len__(self) -> int:
        """Number of entries, one for each block of each endpoint; never more than the limit."""
        return self._blocks

    def find(self, blocks: Sequence[int]) -> dict[str, int]:
        """Address → prompt tokens that the endpoint holds; endpoints that hold none are left out.

        It searches from the last block backwards: a hash covers the whole prompt before it, so the first block found on
        an endpoint tells how much the endpoint holds.
        """
        holders = self._holders
        found: dict[str, int] = {}
        for index in range(len(blocks) - 1, -1, -1):
            held_by = holders.get(blocks[index])
            if held_by is None or len(held_by) <= len(found):  # an endpoint with this block has all before it
                continue
            tokens = prefix_tokens(index + 1)
            for address in held_by - found.keys():
                found[address] = tokens
        return found

    def note(self, blocks: Sequence[int], address: str, capacity_tokens: int = 0) -> None:
        """Records that a prompt goes to the endpoint, whose KV cache holds `capacity_tokens` (0 if unknown)."""
        if not blocks:
            return
        cache = self._caches.setdefault(address, _Cache())
        self._caches.move_to_end(address)
        held = cache.blocks
        # the last block first, so that a prefix is dropped after what follows it
        for index in range(len(blocks) - 1, -1, -1):
            block = blocks[index]
            if block in held:
                held.move_to_end(block)
            else:
                self._add(cache, block, block_tokens(index), address)
        capacity_tokens = max(capacity_tokens or DEFAULT_CAPACITY_TOKENS, _FEWEST_CAPACITY_TOKENS)
        while cache.tokens > capacity_tokens:
            self._drop_oldest(cache, address)
        while self._blocks > self._limit_blocks:
            self._drop_of_stalest()

    def forget(self, address: str) -> None:
        """Drops everything about an endpoint: it has left, or lost its cache."""
        cache = self._caches.get(address)
        while cache is not None and cache.blocks:
            self._drop_oldest(cache, address)
        self._caches.pop(address, None)

    def _add(self, cache: _Cache, block: int, tokens: int, address: str) -> None:
        holders = self._holders.get(block)
        if holders is None:
            self._holders[block] = {address}
        elif len(holders) < _MOST_HOLDERS:
            holders.add(address)
        else:
            return
        cache.blocks[block] = tokens
        cache.tokens += tokens
        self._blocks += 1

    def _drop_oldest(self, cache: _Cache, address: str) -> None:
        block, tokens = cache.blocks.popitem(last=False)
        cache.tokens -= tokens
        self._blocks -= 1
        holders = self._holders[block]
        holders.discard(address)
        if not holders:
            del self._holders[block]

    def _drop_of_stalest(self) -> None:
        """Drops a block of the endpoint that has been idle longest."""
        address, cache = next(iter(self._caches.items()))
        if cache.blocks:
            self._drop_oldest(cache, address)
        else:
            del self._caches[address]
