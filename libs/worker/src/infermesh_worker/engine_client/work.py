"""One request to a model that does not generate text, as the front holds it: what is asked, and the answers to it."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infermesh_runtime.tensors import Array
from infermesh_worker.engine_process.run_frames import WireResult
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.wire_tensors import Flat, raw_view, read, spans_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request asks of a model."""

    params: Mapping[str, Any] = field(default_factory=dict)
    """Values that msgpack can hold."""
    tensors: Sequence[Flat] = ()
    """See `wire_tensors.flatten`."""
    priority: int = 0
    deadline_s: float | None = None
    """By the monotonic clock; None: none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, or a part of it. Its tensors are views, valid until the next `read` of the call or its end."""

    params: Mapping[str, Any]
    _result: WireResult
    _arena: Arena

    @property
    def last(self) -> bool:
        """Whether nothing follows."""
        return self._result.last

    @property
    def tensors(self) -> Mapping[str, Array]:
        """The tensors as arrays."""
        return read(self._arena, self._result.tensors)

    @property
    def raw(self) -> list[Flat]:
        """The tensors as bytes."""
        return [
            (tensor[0], tensor[1], tuple(tensor[2]), raw_view(self._arena, tensor)) for tensor in self._result.tensors
        ]


class WorkCall:
    """A request that the engine process has, for one reader."""

    def __init__(self, outbox: Arena, in_spans: Sequence[int], release: Callable[[list[int]], None]) -> None:
        """`release` is called with spans of the outbox that are no longer needed."""
        self._outbox = outbox
        self.in_spans = in_spans
        """Spans of the memory that the front writes, to be freed when the engine process has ended the request."""
        self._release = release
        self._results: deque[WireResult] = deque()
        self._read: list[int] = []
        self._error: Exception | None = None
        self._came = asyncio.Event()
        self._left = False
        self.ended = False
        """Whether nothing more will come."""

    def push(self, result: WireResult) -> None:
        """Takes a result from the engine process."""
        self.ended = result.last
        if self._left:
            self._release(spans_of(result.tensors))
            return
        self._results.append(result)
        self._came.set()

    def fail(self, error: Exception) -> None:
        """Ends the call: the reader gets what was pushed, then this error. Only the first error counts."""
        self._error, self.ended = self._error or error, True
        self._came.set()

    async def read(self) -> Answer:
        """The next part of the answer; the last one has `last`. Raises `fail`'s error."""
        self._release_read()
        while not self._results:
            if self._error is not None:
                raise self._error
            self._came.clear()
            await self._came.wait()
        result = self._results.popleft()
        self._read = spans_of(result.tensors)
        return Answer(result.params, result, self._outbox)

    def leave(self) -> None:
        """Nobody reads any more; frees all that was answered."""
        self._left = True
        self._release_read()
        for result in self._results:
            self._release(spans_of(result.tensors))
        self._results.clear()

    def _release_read(self) -> None:
        spans, self._read = self._read, []
        if spans:
            self._release(spans)
