"""Makes the prompts of a round: the same for every contestant, and different in every round."""

import random

PROMPT_TOKENS = 60
NEW_TOKENS = 128
_ORDINARY_TOKENS = range(300, 40_000)


def prompts(
    round_number: int, streams: int, *, tokens: int = PROMPT_TOKENS, vocabulary: range = _ORDINARY_TOKENS
) -> list[list[int]]:
    """Returns `streams` prompts of `tokens` token ids each. Rounds share none, so no prefix cache can answer."""
    draw = random.Random(f"{round_number}/{streams}")
    return [draw.choices(vocabulary, k=tokens) for _ in range(streams)]
