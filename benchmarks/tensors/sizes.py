"""Sends tensors of several sizes over all ways in turns, so that all meet the same load of the machine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.tensors.models import SAME
from benchmarks.tensors.rows import Row, measured
from benchmarks.tensors.ways import Array, RefusedError, Sent, Way

SIZES = {"1 KB": 1_000, "150 KB": 150_000, "8 MB": 8_000_000, "64 MB": 64_000_000}


@dataclass(slots=True)
class _Calls:
    """The calls over one way."""

    way: Way
    sent: Sent
    took_s: list[float] = field(default_factory=list)
    total_s: float = 0.0

    async def call(self) -> None:
        """Calls once more."""
        began_s = time.perf_counter()
        await self.way.call(self.sent)
        self.took_s.append(time.perf_counter() - began_s)
        self.total_s += self.took_s[-1]


async def measure_sizes(ways: Sequence[Way], seconds: float) -> list[Row]:
    """A row for each size and way, each measured for `seconds` of its own, with one call at a time."""
    rows = list[Row]()
    for size, size_bytes in SIZES.items():
        x = np.random.default_rng(1).random(size_bytes // 4, np.float32)
        tried = [(way, await _try(way, x)) for way in ways]
        calls = {way.name: _Calls(way, sent) for way, sent in tried if isinstance(sent, Sent)}
        await _take_turns(list(calls.values()), seconds)
        for way, sent in tried:
            if isinstance(sent, RefusedError):
                rows.append(Row(way.name, size, refused=str(sent)))
            else:
                made = calls[way.name]
                rows.append(measured(way.name, size, size_bytes, made.took_s, made.total_s))
    return rows


async def _try(way: Way, x: Array) -> Sent | RefusedError:
    """Calls once, which warms the way up: the request, or a refusal. Raises RuntimeError for a wrong answer."""
    sent = way.pack(SAME, x)
    try:
        answer = await way.call(sent)
    except RefusedError as refusal:
        return refusal
    if way.unpack(answer) != x.tobytes():
        raise RuntimeError(f"{way.name} answers {x.nbytes} bytes with something else")
    return sent


async def _take_turns(calls: list[_Calls], seconds: float) -> None:
    """Each way calls until its calls have taken that long, slow ones therefore less often."""
    while calls:
        for each in calls:
            await each.call()
        calls = [each for each in calls if each.total_s < seconds]
