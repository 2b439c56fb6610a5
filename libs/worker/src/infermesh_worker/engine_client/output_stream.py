"""Holds the outputs of one request until the RPC that writes them takes them."""

import asyncio

from infermesh_engine.requests.output import Finished
from infermesh_worker.engine_client.request_meter import RequestTiming
from infermesh_worker.engine_process.frames import WireDelta, WireLogprob


class OutputStream:
    """The outputs of one request, for one reader.

    Outputs that a slow reader has not taken are kept, and merged into one delta for each choice when it takes them.
    The number of tokens that the request may generate bounds how much is kept.
    """

    __slots__ = ("_deltas", "_error", "_finished", "_loop", "_open_choices", "_waiter", "prompt_logprobs", "timing")

    def __init__(self, choices: int, timing: RequestTiming) -> None:
        """`choices`: how many `Finished` end the stream. Must be created in the event loop that reads it."""
        self.timing = timing
        self.prompt_logprobs: tuple[list[WireLogprob], list[int]] | None = None
        """The log probabilities of the prompt's tokens, and their ranks; there before the first output if at all."""
        self._open_choices = choices
        self._loop = asyncio.get_running_loop()
        self._deltas: list[WireDelta] = []
        self._finished: list[Finished] = []
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be pushed."""
        return self._open_choices == 0 or self._error is not None

    @property
    def open_choices(self) -> int:
        """How many choices have not ended."""
        return 0 if self._error is not None else self._open_choices

    def push(self, delta: WireDelta) -> None:
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
        """Ends the whole stream: the reader gets what was pushed, then this error. Only the first error counts."""
        if self.ended:
            return
        self._error = error
        if self._waiter is not None:
            self._wake()

    async def read(self) -> tuple[list[WireDelta], list[Finished]]:
        """Waits for outputs and takes all of them, merged; both lists are empty at the end. Raises `fail`'s error."""
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


def merge(deltas: list[WireDelta]) -> list[WireDelta]:
    """One delta for each choice, with all of its text, token ids and logprobs in order."""
    by_choice: dict[int, list[WireDelta]] = {}
    for delta in deltas:
        by_choice.setdefault(delta[1], []).append(delta)
    return [_join(parts) if len(parts) > 1 else parts[0] for parts in by_choice.values()]


def _join(parts: list[WireDelta]) -> WireDelta:
    text = "".join([part[2] for part in parts])
    token_ids = [token_id for part in parts for token_id in part[3]]
    logprobs = [entry for part in parts for entry in part[4]]
    return parts[0][0], parts[0][1], text, token_ids, logprobs
