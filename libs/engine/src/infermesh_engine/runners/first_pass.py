"""Runs a model once after it was loaded, to see whether it computes numbers at all."""

import numpy as np

from infermesh_engine.runners.runner import Batch, ModelRunner, RunnerInfo

TOKENS = 16


def known_prompt(info: RunnerInfo, *, tokens: int = TOKENS) -> list[int]:
    """The tokens of a prompt that every loaded model has answered: from all over the vocabulary."""
    found: list[int] = np.linspace(0, info.vocab_size - 1, tokens).astype(np.int64).tolist()
    return found


def is_finite(runner: ModelRunner) -> bool:
    """Whether the logits after a short prompt, of tokens from all over the vocabulary, are finite.

    Overwrites the first KV block, so call it before the runner serves anything.
    """
    info = runner.info
    tokens = min(TOKENS, info.block_size, info.context_length)
    if tokens < info.min_run_tokens:
        return True
    logits = runner.run(
        Batch(
            token_ids=np.array(known_prompt(info, tokens=tokens), np.int64),
            positions=np.arange(tokens),
            past_lens=np.zeros(1, np.int32),
            begins=np.array([0, tokens], np.int32),
            blocks=np.zeros(1, np.int32),
            block_begins=np.array([0, 1], np.int32),
            max_context_tokens=tokens,
            rows=np.array([tokens - 1], np.int32),
            inverse_temperatures=np.ones(1, np.float32),
        )
    )
    return bool(np.isfinite(logits.top_logits[0, 0]))
