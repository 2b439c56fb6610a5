"""Hands out KV blocks by number, counts their references, and decides which cached block is evicted next."""

from collections import OrderedDict
from collections.abc import Iterator


class BlockPool:
    """The KV blocks of a device. Published blocks stay cached for reuse until their space is needed.

    A block is in one of three states: referenced by one or more sequences; cached, that is published and unreferenced
    (the least recently released one is evicted first); or free. After `resize`, blocks beyond the new size are in none
    of them: they are not handed out, and those still referenced leave when their last reference goes.
    """

    def __init__(self, num_blocks: int, *, retain: bool) -> None:
        """`retain`: published blocks stay cached when their last reference goes; otherwise they become free."""
        self.num_blocks = num_blocks
        """Blocks that may be handed out: those with smaller numbers."""
        self.written = 0
        """Blocks from this number on were never handed out, or not since their memory was given back."""
        self._size = num_blocks
        self._outside = 0
        """Blocks beyond `num_blocks` that no sequence references."""
        self.releases = 0
        """How often a block became available. While this is unchanged, `available` has not grown."""
        self._retain = retain
        self._references = [0] * num_blocks
        self._keys: list[bytes | None] = [None] * num_blocks
        self._by_key: dict[bytes, int] = {}
        self._free = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that `allocate` could hand out now."""
        return len(self._free) + len(self._cached)

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def referenced(self) -> int:
        return self._size - self._outside - len(self._free) - len(self._cached)

    def references(self, block: int) -> int:
        return self._references[block]

    def find(self, key: bytes) -> int | None:
        """The block published under the key, referenced or cached. Changes nothing."""
        return self._by_key.get(key)

    def allocate(self) -> int:
        """Takes a block, with one reference and unknown content. If none is free, evicts the oldest cached one.

        Raises IndexError when `available` is 0.
        """
        if self._free:
            block = self._free.pop()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            self._unpublish(block)
        else:
            raise IndexError("no KV block is available: all are referenced")
        self._references[block] = 1
        if block >= self.written:
            self.written = block + 1
        return block

    def share(self, block: int) -> None:
        """Adds a reference to a referenced or cached block. Raises ValueError for a free one."""
        if self._references[block] == 0:
            if block not in self._cached:
                raise ValueError(f"KV block {block} is free and cannot be shared")
            del self._cached[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """Drops a reference. Without any, the block becomes cached (if published) or free.

        Raises ValueError when the block is not referenced.
        """
        references = self._references[block] - 1
        if references < 0:
            raise ValueError(f"KV block {block} is released more often than it was referenced")
        self._references[block] = references
        if references:
            return
        self.releases += 1
        if block >= self.num_blocks:
            self._unpublish(block)
            self._outside += 1
            return
        if self._keys[block] is not None:
            if self._retain:
                self._cached[block] = None
                return
            self._unpublish(block)
        self._free.append(block)

    def publish(self, block: int, key: bytes) -> None:
        """Lets `find` find a referenced block by the key of its content. The first block published under a key stays.

        Raises ValueError when the block is not referenced.
        """
        if self._references[block] == 0:
            raise ValueError(f"KV block {block} is not referenced and cannot be published")
        if self._keys[block] is None and key not in self._by_key:
            self._keys[block] = key
            self._by_key[key] = block

    def resize(self, num_blocks: int) -> None:
        """Hands out only the blocks with smaller numbers from now on, at most as many as there were at first."""
        before, self.num_blocks = self.num_blocks, min(num_blocks, self._size)
        if self.num_blocks < before:
            kept = [block for block in self._free if block < self.num_blocks]
            dropped = [block for block in self._cached if block >= self.num_blocks]
            for block in dropped:
                del self._cached[block]
                self._unpublish(block)
            self._outside += len(self._free) - len(kept) + len(dropped)
            self.written = min(self.written, self.num_blocks)
            self._free = kept
        else:
            again = [block for block in range(before, self.num_blocks) if not self._references[block]]
            self._outside -= len(again)
            self._free = again[::-1] + self._free  # used last: their memory may have been given back
            self.releases += 1

    def outside(self) -> Iterator[range]:
        """Runs of the blocks beyond `num_blocks` that no sequence references: what they hold is not needed."""
        begin = self.num_blocks
        for block in range(self.num_blocks, self._size + 1):
            if block == self._size or self._references[block]:
                if begin < block:
                    yield range(begin, block)
                begin = block + 1

    def _unpublish(self, block: int) -> None:
        key = self._keys[block]
        if key is not None:
            del self._by_key[key]
            self._keys[block] = None
