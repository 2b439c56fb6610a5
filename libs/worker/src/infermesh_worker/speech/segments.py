"""Cuts what was written of a window into segments at the times in it, and says where the next window begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

TIME_STEP_S, TIME_STEP_FRAMES = 0.02, 2
"""How far apart two times are: in seconds, and in frames of features."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment of a window."""

    begin_s: float
    """From the beginning of the window."""
    end_s: float
    tokens: tuple[int, ...]
    """Its text, and the times before and after it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The segments of a window, and how many frames after its beginning the next one begins."""

    parts: tuple[Part, ...]
    frames: int


def cut(tokens: Sequence[int], first_time: int, frames: int) -> Cut:
    """Cuts the tokens of a window that has sound in so many `frames`, as OpenAI's and transformers' long form do.

    Two times in a row end a segment and begin another one. What follows the last such pair is unfinished: it is
    written again, as the beginning of the next window, unless the text ends with a single time, after which is silence.
    """
    times = [token >= first_time for token in tokens]
    pairs = [place + 1 for place in range(len(times) - 1) if times[place] and times[place + 1]]
    if not pairs:
        return Cut((_whole(tokens, times, first_time, frames),), frames)
    finished = times[-2:] == [False, True]
    bounds = [0, *pairs, len(tokens)] if finished else [0, *pairs]
    parts = tuple(
        Part(_seconds(tokens[begin], first_time), _seconds(tokens[end - 1], first_time), tuple(tokens[begin:end]))
        for begin, end in pairwise(bounds)
    )
    next_frame = frames if finished else (tokens[pairs[-1] - 1] - first_time) * TIME_STEP_FRAMES
    return Cut(parts, next_frame)


def _whole(tokens: Sequence[int], times: Sequence[bool], first_time: int, frames: int) -> Part:
    """All of the window as one segment, up to the last time in it, if there is one."""
    last = next(
        (token for token, is_time in zip(reversed(tokens), reversed(times), strict=True) if is_time), first_time
    )
    end_s = frames / TIME_STEP_FRAMES * TIME_STEP_S if last == first_time else _seconds(last, first_time)
    return Part(0.0, end_s, tuple(tokens))


def _seconds(token: int, first_time: int) -> float:
    return round((token - first_time) * TIME_STEP_S, 2)
