"""Gives sequences their KV blocks, and shares blocks between sequences that begin with the same tokens."""

from hashlib import blake2b

from infermesh_engine.scheduling.block_pool import BlockPool
from infermesh_engine.scheduling.sequence import Sequence

PREFIX_ROOT = bytes(16)
"""Start of every sequence's chain of block keys while prefix caching is on."""


def block_key(parent: bytes, content: bytes) -> bytes:
    """Key of a full block: 16 bytes that depend on its content, which is its tokens and the images among them, and,
    through the parent's key, on all before it.
    """
    return blake2b(parent + content, digest_size=16).digest()


class KvCache:
    """The block tables of all sequences, and the prefix cache over their blocks.

    Full blocks are shared if all tokens and images from the first to the block's last are equal. A sequence writes new
    tokens to blocks of its own. (If RunnerInfo.min_run_tokens makes it feed the last token of a shared block again,
    that token's KV is rewritten with the same bits.)
    """

    def __init__(self, *, num_blocks: int, block_size: int, prefix_caching: bool) -> None:
        """Without `prefix_caching`, only the choices of one request share blocks, while they reference them."""
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.pool = BlockPool(num_blocks, retain=prefix_caching)

    @property
    def num_tokens(self) -> int:
        return self.pool.num_blocks * self.block_size

    @property
    def usage(self) -> float:
        """Share of the blocks that sequences reference, in [0, 1]."""
        return min(1.0, self.pool.referenced / self.pool.num_blocks)

    def resize(self, num_blocks: int, *, least_tokens: int) -> int:
        """Uses this many blocks from now on, as far as it has them; returns how many.

        It does not shrink below what `least_tokens` need, so that no sequence of that length waits for ever.
        """
        least = min(self._blocks_for(least_tokens), self.pool.num_blocks)
        self.pool.resize(max(num_blocks, least))
        return self.pool.num_blocks

    def prefix_root(self, request_id: str, *, has_siblings: bool, salt: str = "") -> bytes | None:
        """Start of the key chain of a request's sequences, which decides with whom they share blocks; None: nobody."""
        if self.prefix_caching:
            return blake2b(salt.encode(), digest_size=16).digest() if salt else PREFIX_ROOT
        return blake2b(request_id.encode(), digest_size=16).digest() if has_siblings else None

    def match(self, sequence: Sequence) -> list[int]:
        """The blocks that already hold the sequence's first tokens, never its last one. Changes no block."""
        blocks: list[int] = []
        root = sequence.prefix_root
        if root is None or sequence.is_scoring:
            return blocks
        for index in range((sequence.num_tokens - 1) // self.block_size):
            block = self.pool.find(self._key(sequence, root, index))
            if block is None:
                break
            blocks.append(block)
        return blocks

    def can_allocate(self, sequence: Sequence, prefix: list[int], *, headroom_blocks: int) -> bool:
        """Whether all tokens of the sequence fit and leave `headroom_blocks` free; `prefix` is its match."""
        from_cached = sum(self.pool.references(block) == 0 for block in prefix)
        new = self._blocks_for(sequence.num_tokens) - len(prefix)
        return new + headroom_blocks <= self.pool.available - from_cached

    def allocate(self, sequence: Sequence, prefix: list[int]) -> None:
        """Gives the sequence its matched prefix and blocks for the rest of its tokens."""
        for block in prefix:
            self.pool.share(block)
            sequence.blocks.append(block)
        for _ in range(self._blocks_for(sequence.num_tokens) - len(prefix)):
            sequence.blocks.append(self.pool.allocate())
        sequence.capacity = len(sequence.blocks) * self.block_size
        sequence.computed = len(prefix) * self.block_size
        sequence.published = len(prefix)

    def can_grow(self) -> bool:
        return self.pool.available > 0

    def grow(self, sequence: Sequence) -> None:
        """Gives the sequence one more block."""
        sequence.blocks.append(self.pool.allocate())
        sequence.capacity += self.block_size

    def trim(self, sequence: Sequence) -> None:
        """Takes back blocks that hold no computed token, after guesses in them turned out wrong."""
        needed = self._blocks_for(sequence.computed)
        table = sequence.blocks.view
        for block in reversed(table[needed:].tolist()):
            self.pool.release(block)
            sequence.blocks.pop()
            sequence.capacity -= self.block_size

    def publish(self, sequence: Sequence) -> None:
        """Lets others find the sequence's full, computed blocks."""
        full = sequence.computed // self.block_size
        root = sequence.prefix_root
        if root is None or full == sequence.published:
            return
        table = sequence.blocks.view
        for index in range(sequence.published, full):
            self.pool.publish(int(table[index]), self._key(sequence, root, index))
        sequence.published = full

    def free(self, sequence: Sequence) -> None:
        """Takes the sequence's blocks back. Does nothing if it has none."""
        # Last block first: a prefix is more useful than what follows it, so it should be evicted later.
        for block in reversed(sequence.blocks.view.tolist()):
            self.pool.release(block)
        sequence.blocks.clear()
        sequence.capacity = sequence.computed = sequence.published = 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def _key(self, sequence: Sequence, root: bytes, index: int) -> bytes:
        keys = sequence.keys
        while len(keys) <= index:
            parent = keys[-1] if keys else root
            begin, end = len(keys) * self.block_size, (len(keys) + 1) * self.block_size
            shown = sequence.images.key(begin, end) if sequence.images is not None else b""
            keys.append(block_key(parent, sequence.tokens.view[begin:end].tobytes() + shown))
        return keys[index]
