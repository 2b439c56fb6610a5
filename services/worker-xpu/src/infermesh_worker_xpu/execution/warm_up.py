"""Makes the batches that compile every kernel at load, so that no request has to wait for a compilation."""

from collections.abc import Iterator

import numpy as np

from infermesh_engine.runners.runner import Batch
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE

SHORT_TOKENS, LONG_TOKENS = 2, 64
"""Two prompt lengths: one for which prefill takes small tiles, one for large tiles."""
SHORTEST_SPLIT_TOKENS = 256
"""From this context length on, decode splits a context into more chunks each time the length doubles."""


def shortest(padding_block: int) -> Batch:
    """A decode and a prefill, both on the padding block."""
    return _decode_and_prefill(padding_block, 1, SHORT_TOKENS)


def all_kernels(padding_block: int, context_length: int) -> Iterator[Batch]:
    """Batches that together use every kernel variant that contexts up to `context_length` can need."""
    context = SHORTEST_SPLIT_TOKENS
    while context < context_length:
        yield _decode_and_prefill(padding_block, context, LONG_TOKENS)
        context *= 2
    yield _decode_and_prefill(padding_block, context_length, min(LONG_TOKENS, context_length))


def _decode_and_prefill(padding_block: int, context: int, new: int) -> Batch:
    counts = [-(-tokens // BLOCK_SIZE) for tokens in (context, new)]
    return Batch(
        token_ids=np.zeros(1 + new, np.int64),
        positions=np.array([context - 1, *range(new)]),
        past_lens=np.array([context - 1, 0], np.int32),
        begins=np.array([0, 1, 1 + new], np.int32),
        blocks=np.full(sum(counts), padding_block, np.int32),
        block_begins=np.array([0, counts[0], sum(counts)], np.int32),
        max_context_tokens=max(context, new),
        rows=np.array([0, new], np.int32),
        inverse_temperatures=np.ones(2, np.float32),
    )
