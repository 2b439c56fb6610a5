"""Owns the prompts that all contestants of a benchmark get: the same for the same round, never twice the same."""

import random

PROMPT_TOKENS = 60
NEW_TOKENS = 128
_ORDINARY_TOKENS = range(300, 40_000)


def prompts(
    round_number: int, streams: int, *, tokens: int = PROMPT_TOKENS, vocabulary: range = _ORDINARY_TOKENS
) -> list[list[int]]:
    """`streams` prompts of `tokens` token ids each. Every round's differ, so no prefix cache can answer."""
    draw = random.Random(f"{round_number}/{streams}")
    return [draw.choices(vocabulary, k=tokens) for _ in range(streams)]
