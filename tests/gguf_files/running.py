"""Runs a fixed sequence of tokens through a worker's runner, in chunks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch, ModelRunner
from tests.gguf_files.recipes import VOCABULARY

IDS = [int(token) for token in np.random.default_rng(3).integers(0, VOCABULARY, 150)]
CHUNKS = (70, 79, 1)
"""A prompt in two chunks, then a decode step; windows end inside them."""


def log_probabilities_of(runner: ModelRunner, chunks: Sequence[int] = CHUNKS) -> NDArray[np.float64]:
    """Log probabilities [tokens, vocabulary] of the token after each of IDS; closes the runner."""
    blocks = np.arange(-(-len(IDS) // runner.info.block_size), dtype=np.int32)
    rows: list[NDArray[np.float64]] = []
    past = 0
    for count in chunks:
        # exact numerics wants two tokens at least: one is fed again, as the engine does
        again = 1 if count == 1 else 0
        begin, end = past - again, past + count
        held = -(-end // runner.info.block_size)
        logits = runner.run(
            Batch(
                token_ids=np.array(IDS[begin:end], np.int64),
                positions=np.arange(begin, end, dtype=np.int64),
                past_lens=np.array([begin], np.int32),
                begins=np.array([0, end - begin], np.int32),
                blocks=blocks[:held],
                block_begins=np.array([0, held], np.int32),
                max_context_tokens=end,
                rows=np.arange(again, end - begin, dtype=np.int32),
                inverse_temperatures=np.ones(count, np.float32),
            )
        )
        rows += [logits.row(index).astype(np.float64) for index in range(count)]
        past = end
    runner.close()
    every = np.array(rows)
    largest = every.max(-1, keepdims=True)
    probabilities: NDArray[np.float64] = every - largest - np.log(np.exp(every - largest).sum(-1, keepdims=True))
    return probabilities
