"""Owns the outputs of one request between the engine's frames and the RPC that writes them. Knows neither."""

import asyncio

from infermesh_engine.requests.output import Finished
from infermesh_worker.engine_process.ipc import DeltaFrame
from infermesh_worker.engine_process.metrics import Timing


class Stream:
    """Outputs of one request, for one reader.

    What a slow reader has not taken is kept, and merged to one delta for each choice when it is taken; the tokens that
    the request may generate are its bound.
    """

    __slots__ = ("_deltas", "_error", "_finished", "_loop", "_open_choices", "_waiter", "timing")

    def __init__(self, choices: int, timing: Timing) -> None:
        """`choices`: how many `Finished` end the stream. Made in the event loop that reads it."""
        self.timing = timing
        self._open_choices = choices
        self._loop = asyncio.get_running_loop()
        self._deltas: list[DeltaFrame] = []
        self._finished: list[Finished] = []
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be pushed."""
        return self._open_choices == 0 or self._error is not None

    @property
    def open_choices(self) -> int:
        """Choices that have not ended."""
        return 0 if self._error is not None else self._open_choices

    def push(self, delta: DeltaFrame) -> None:
        self._deltas.append(delta)
        if self._waiter is not None:
            self._wake()

    def finish(self, finished: Finished) -> None:
        """Ends one choice."""
        self._open_choices -= 1
        self._finished.append(finished)
        if self._waiter is not None:
            self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the whole stream: the reader gets what was pushed and then this error. The first error counts."""
        if self.ended:
            return
        self._error = error
        if self._waiter is not None:
            self._wake()

    async def read(self) -> tuple[list[DeltaFrame], list[Finished]]:
        """Waits for outputs and takes all there are, merged; both empty at the end. Raises the error of `fail`."""
        while not self._deltas and not self._finished:
            if self._error is not None:
                raise self._error
            if self._open_choices == 0:
                return [], []
            self._waiter = self._loop.create_future()
            await self._waiter
        deltas, self._deltas = self._deltas, []
        finished, self._finished = self._finished, []
        return (deltas if len(deltas) == 1 else merge(deltas)), finished

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def merge(deltas: list[DeltaFrame]) -> list[DeltaFrame]:
    """One delta for each choice, holding all of its text, token ids and logprobs in order."""
    by_choice: dict[int, list[DeltaFrame]] = {}
    for delta in deltas:
        by_choice.setdefault(delta[1], []).append(delta)
    return [_join(parts) if len(parts) > 1 else parts[0] for parts in by_choice.values()]


def _join(parts: list[DeltaFrame]) -> DeltaFrame:
    text = "".join([part[2] for part in parts])
    token_ids = [token_id for part in parts for token_id in part[3]]
    logprobs = [entry for part in parts for entry in part[4]]
    return parts[0][0], parts[0][1], text, token_ids, logprobs
