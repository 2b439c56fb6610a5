"""Holds the outputs of one request until the RPC that writes them takes them."""

import asyncio
from collections.abc import Callable
from functools import partial

from infermesh_engine.requests.output import Finished
from infermesh_worker.engine_client.request_meter import RequestTiming
from infermesh_worker.engine_process.frames import WireDelta, WireLogprob


class OutputStream:
    """The outputs of one request, for one reader.

    Outputs that a slow reader has not taken are kept, and merged into one delta for each choice when it takes them.
    The number of tokens that the request may generate bounds how much is kept.
    """

    __slots__ = ("_deltas", "_finished", "_loop", "_on_ready", "_open_choices", "error", "prompt_logprobs", "timing")

    def __init__(self, choices: int, timing: RequestTiming) -> None:
        """`choices`: how many `Finished` end the stream. Must be created in the event loop that reads it."""
        self.timing = timing
        self.prompt_logprobs: tuple[list[WireLogprob], list[int]] | None = None
        """The log probabilities of the prompt's tokens, and their ranks; there before the first output if at all."""
        self._open_choices = choices
        self._loop = asyncio.get_running_loop()
        self._deltas: list[WireDelta] = []
        self._finished: list[Finished] = []
        self.error: Exception | None = None
        """What ended the whole stream, after the outputs that are left to take."""
        self._on_ready: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be pushed."""
        return self._open_choices == 0 or self.error is not None

    @property
    def open_choices(self) -> int:
        """How many choices have not ended."""
        return 0 if self.error is not None else self._open_choices

    def push(self, delta: WireDelta) -> None:
        self._deltas.append(delta)
        if self._on_ready is not None:
            self._wake()

    def finish(self, finished: Finished) -> None:
        """Ends one choice."""
        self._open_choices -= 1
        self._finished.append(finished)
        if self._on_ready is not None:
            self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the whole stream: the reader gets what was pushed, then this error. Only the first error counts."""
        if self.ended:
            return
        self.error = error
        if self._on_ready is not None:
            self._wake()

    def when_ready(self, call: Callable[[], None] | None) -> None:
        """Calls this once, as soon as there is something to take or the stream has ended; None calls nothing."""
        self._on_ready = call
        if self._deltas or self._finished or self.ended:
            self._wake()

    def take(self, when_more: Callable[[], None] | None = None) -> tuple[list[WireDelta], list[Finished]]:
        """Takes all outputs that there are, merged. Unless the stream has ended, calls `when_more` as `when_ready`."""
        self._on_ready = when_more
        deltas, self._deltas = self._deltas, []
        finished, self._finished = self._finished, []
        return (deltas if len(deltas) < 2 else merge(deltas)), finished

    async def read(self) -> tuple[list[WireDelta], list[Finished]]:
        """Waits for outputs and takes all of them, merged; both lists are empty at the end. Raises `fail`'s error."""
        while not self._deltas and not self._finished:
            if self.error is not None:
                raise self.error
            if self._open_choices == 0:
                return [], []
            waiter = self._loop.create_future()
            self._on_ready = partial(_resolve, waiter)
            await waiter
        return self.take()

    def _wake(self) -> None:
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready()


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
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
