"""Delivers tokens and errors to the requests that are running or waiting, and removes those that end."""

import logging
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from infermesh_engine.requests.output import Failed, Finished, Output
from infermesh_engine.sampling.broken import BrokenLogitsError
from infermesh_engine.sampling.sampler import SampledToken
from infermesh_engine.scheduling.prompt_scores import ScoredToken
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.timing import timings
from infermesh_engine.steps.emission import emit
from infermesh_engine.steps.scoring import Scoring
from infermesh_engine.text.token_bytes import TokenBytes
from infermesh_runtime.errors import InfermeshError, Internal

_log = logging.getLogger(__name__)


class LiveRequests:
    """Requests with sequences in the scheduler, by request id."""

    def __init__(
        self, scheduler: Scheduler, token_bytes: TokenBytes, model: str, clock: Callable[[], float] = monotonic
    ) -> None:
        """`model`: name of the model, for errors. `clock` gives seconds."""
        self._model = model
        self._scheduler = scheduler
        self._clock = clock
        self.token_bytes = token_bytes
        self._sequences: dict[str, list[Sequence]] = {}
        self.broken = 0
        """How many requests ended because their logits were not finite."""

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._sequences

    def add(self, sequences: list[Sequence]) -> None:
        """Queues the sequences of one request; all but the first wait until the first has computed their prompt."""
        leader = sequences[0]
        self._sequences[leader.request_id] = sequences
        leader.followers = sequences[1:]
        self._scheduler.add(leader)

    def cancel(self, request_id: str) -> None:
        """Removes a request and frees its blocks now. Does nothing for an unknown request."""
        for sequence in self._sequences.pop(request_id, ()):
            self._scheduler.remove(sequence)

    def cancel_all(self) -> None:
        for request_id in list(self._sequences):
            self.cancel(request_id)

    def deliver(self, sequence: Sequence, token: SampledToken | Exception, outputs: list[Output]) -> bool:
        """Gives a sequence its token, or fails its request, and appends what the client gets to `outputs`.

        Returns whether the sequence goes on. Does nothing for a sequence that is gone: another choice of its request
        failed in this step, or the request ended while its token was computed.
        """
        if sequence not in self._sequences.get(sequence.request_id, ()):
            return False
        if isinstance(token, Exception):
            outputs.append(self._fail(sequence, token))
            return False
        try:
            delta, finished = emit(sequence, token, self.token_bytes)
        except Exception as error:  # an error of one request's grammar or text must not end the others
            outputs.append(self._fail(sequence, error))
            return False
        outputs.append(delta)
        if finished is not None:
            outputs.append(self._measured(finished, sequence))
            self._remove(sequence)
        return finished is None

    def deliver_scores(
        self, scoring: Scoring, read: Callable[[TokenBytes], list[ScoredToken]], outputs: list[Output]
    ) -> None:
        """Gives a sequence the log probabilities of its prompt's tokens, or fails its request."""
        sequence, scores = scoring.sequence, scoring.sequence.scores
        if scores is None or sequence not in self._sequences.get(sequence.request_id, ()):
            return
        try:
            scores.add(scoring.begin, read(self.token_bytes))
        except BrokenLogitsError as error:
            outputs.append(self._fail(sequence, error))
            return
        if scores.known == sequence.prompt_tokens - 1:
            outputs.append(scores.output(sequence.request_id))
            sequence.scores = None

    def _measured(self, finished: Finished, sequence: Sequence) -> Finished:
        """The end of a choice with what was measured of it."""
        timing = sequence.timing
        return replace(
            finished,
            timings=timings(sequence, self._clock()),
            accepted_prediction_tokens=timing.accepted_predicted_tokens,
            rejected_prediction_tokens=timing.predicted_tokens - timing.accepted_predicted_tokens,
        )

    def _fail(self, sequence: Sequence, error: Exception) -> Failed:
        self.cancel(sequence.request_id)
        if isinstance(error, BrokenLogitsError):
            self.broken += 1
            _log.error("a request's logits are not finite", extra={"model": self._model})
            error = error.named(self._model)
        if not isinstance(error, InfermeshError):
            _log.error("a request failed in the engine", exc_info=error)
            error = Internal("Internal error in the engine.")
        return Failed(sequence.request_id, error)

    def _remove(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        sequences = self._sequences[sequence.request_id]
        sequences.remove(sequence)
        if not sequences:
            del self._sequences[sequence.request_id]
