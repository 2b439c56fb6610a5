"""The bytes of one answer with the times at which they came; read only after the run, since reading costs time."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate


@dataclass(slots=True)
class Arrivals:
    """Filled while an answer comes."""

    began_s: float = field(default_factory=time.perf_counter)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something of the answer's body is there, or nothing more comes."""
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def take(self, data: bytes) -> None:
        """More has come."""
        self.pieces.append((time.perf_counter(), data))

    def end(self, problem: str = "") -> None:
        """Nothing more comes; `problem`: because it failed."""
        self.first.set()
        if not self.ended.done():
            if problem:
                self.ended.set_exception(RuntimeError(problem))
                self.ended.exception()  # so that asyncio does not log those of which nobody asks
            else:
                self.ended.set_result(None)

    async def begun(self) -> None:
        """Waits for the beginning of the answer. Raises RuntimeError if it failed."""
        await self.first.wait()
        if self.ended.done():
            self.ended.result()

    def bytes(self) -> bytes:
        """All that came."""
        return b"".join(data for _, data in self.pieces)

    def times(self) -> "Times":
        """When each byte came."""
        return Times([when_s for when_s, _ in self.pieces], list(accumulate(len(data) for _, data in self.pieces)))


@dataclass(frozen=True, slots=True)
class Times:
    """When each byte of an answer came."""

    at_s: list[float]
    ends: list[int]

    def until(self, end: int) -> float:
        """When everything before this offset was there."""
        return self.at_s[bisect_left(self.ends, end)]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an answer: of gRPC, or an HTTP chunk."""

    at_s: float
    text: str
    tokens: int
    finish_reason: str = ""
    worker_ms: float = 0.0
    """How long the worker took for the whole answer; told at the end."""


Messages = Iterator[Message]
