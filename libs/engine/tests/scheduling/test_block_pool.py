"""The block pool against a simple model of it."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from infermesh_engine.scheduling.block_pool import BlockPool


class BlockPoolMachine(RuleBasedStateMachine):
    """Compares the pool with a model: reference counts, and the cached blocks in the order of their release."""

    @initialize(num_blocks=st.integers(1, 6), retain=st.booleans())
    def build(self, num_blocks: int, retain: bool) -> None:
        self.pool = BlockPool(num_blocks, retain=retain)
        self.size = num_blocks
        self.retain = retain
        self.references: dict[int, int] = {}
        self.cached: list[int] = []
        self.keys: dict[int, bytes] = {}

    @rule()
    def allocate(self) -> None:
        if self.inside == self.pool.num_blocks:
            with pytest.raises(IndexError):
                self.pool.allocate()
            return
        had_free = self.pool.free > 0
        block = self.pool.allocate()
        assert block not in self.references, "a referenced block was handed out"
        assert block < self.pool.num_blocks, "a block beyond the size was handed out"
        if not had_free:
            assert block == self.cached.pop(0), "not the least recently released was evicted"
            del self.keys[block]
        self.references[block] = 1

    @precondition(lambda self: self.references)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.references)))
        self.pool.release(block)
        self.references[block] -= 1
        if not self.references[block]:
            del self.references[block]
            if block in self.keys and self.retain and block < self.pool.num_blocks:
                self.cached.append(block)
            else:
                self.keys.pop(block, None)

    @rule(data=st.data())
    def release_unreferenced(self, data: st.DataObject) -> None:
        block = data.draw(st.integers(0, self.size - 1))
        if block not in self.references:
            with pytest.raises(ValueError, match="released more often"):
                self.pool.release(block)

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        block = data.draw(st.integers(0, self.size - 1))
        if block not in self.references and block not in self.cached:
            with pytest.raises(ValueError, match="is free"):
                self.pool.share(block)
            return
        self.pool.share(block)
        if block in self.cached:
            self.cached.remove(block)
        self.references[block] = self.references.get(block, 0) + 1

    @rule(data=st.data(), key=st.sampled_from([b"a", b"b", b"c", b"d"]))
    def publish(self, data: st.DataObject, key: bytes) -> None:
        block = data.draw(st.integers(0, self.size - 1))
        if block not in self.references:
            with pytest.raises(ValueError, match="cannot be published"):
                self.pool.publish(block, key)
            return
        self.pool.publish(block, key)
        if block not in self.keys and key not in self.keys.values():
            self.keys[block] = key

    @property
    def inside(self) -> int:
        """How many of the blocks that may be handed out are referenced."""
        return sum(block < self.pool.num_blocks for block in self.references)

    @rule(data=st.data())
    def resize(self, data: st.DataObject) -> None:
        num_blocks = data.draw(st.integers(1, self.size))
        self.pool.resize(num_blocks)
        for block in [block for block in self.cached if block >= num_blocks]:
            self.cached.remove(block)
            del self.keys[block]

    @invariant()
    def agrees(self) -> None:
        pool = self.pool
        assert pool.free + self.inside + pool.cached == pool.num_blocks
        outside = [block for blocks in pool.outside() for block in blocks]
        assert outside == [b for b in range(pool.num_blocks, self.size) if b not in self.references]
        assert pool.referenced == len(self.references)
        assert pool.cached == len(self.cached)
        assert pool.available == pool.num_blocks - self.inside
        assert all(pool.references(block) == self.references.get(block, 0) for block in range(self.size))
        assert all(pool.find(key) == block for block, key in self.keys.items())
        assert all(pool.find(key) is None for key in (b"a", b"b", b"c", b"d") if key not in self.keys.values())


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
