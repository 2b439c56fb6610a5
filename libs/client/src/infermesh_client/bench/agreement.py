"""Compares what one model writes on two devices: how much is the same, and where it first differs."""

from collections.abc import Sequence
from dataclasses import dataclass

_CONTEXT = 24
"""Characters of each text that are shown around a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a device wrote for one prompt, and how fast."""

    text: str
    token_ids: Sequence[int]
    ttft_s: float
    tokens_per_s: float
    """After the first token; 0 if there was only one."""
    device: str
    """Kind of the device that answered."""
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two replies first differ."""

    token: int
    """Index of the first token that differs, from 0."""
    before: str
    """The end of the text that both have."""
    first: str
    """How the first one goes on."""
    second: str


def first_difference(first: Reply, second: Reply) -> Difference | None:
    """Where the replies first differ, by tokens; None if they are the same."""
    token = _common(first.token_ids, second.token_ids)
    if token == len(first.token_ids) == len(second.token_ids):
        return None
    split = _common(first.text, second.text)
    end = split + _CONTEXT
    return Difference(
        token=token,
        before=first.text[max(0, split - _CONTEXT) : split],
        first=first.text[split:end],
        second=second.text[split:end],
    )


def agreement(first: Sequence[Reply], second: Sequence[Reply]) -> float:
    """The part of the tokens before the first difference of each pair, in [0, 1].

    Tokens after a difference have different texts before them, so they say nothing and count as not the same.
    """
    same = sum(_common(one.token_ids, other.token_ids) for one, other in zip(first, second, strict=True))
    most = sum(max(len(one.token_ids), len(other.token_ids)) for one, other in zip(first, second, strict=True))
    return same / most if most else 1.0


def _common(first: Sequence[object], second: Sequence[object]) -> int:
    """How many elements the two begin with in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))
