"""Owns the steps of a runner that samples: the next batch is launched while one runs. Knows no device and no text.

Between steps at most one launch is in flight. Its plan is counted as computed and its sequences expect their tokens, so
the scheduler plans the next step as if they were there. What others could see of it (cached blocks, followers, outputs)
waits until it has landed. A sequence that turns out to have ended stays in the launch that was made meanwhile; what it
would get there is dropped.
"""

from dataclasses import dataclass
from typing import Protocol

from infermesh_engine.requests.output import Output
from infermesh_engine.runners.sampling_runner import Launch, SamplingRunner
from infermesh_engine.sampling import sampling_batch
from infermesh_engine.sampling.sampler import SampledToken
from infermesh_engine.scheduling.batch_builder import BatchBuilder
from infermesh_engine.scheduling.scheduler import Plan, Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.steps.rate_meter import RateMeter
from infermesh_runtime.errors import ResourceExhausted


class Taker(Protocol):
    """Who gets the tokens."""

    def take(self, sequence: Sequence, token: SampledToken | Exception, outputs: list[Output]) -> None:
        """Gives a sequence its token, or fails its request; a no-op where the sequence is gone."""
        ...


@dataclass(frozen=True, slots=True)
class _Ready:
    """A launch that is not sampled yet, with the row of each sequence that gets a token."""

    launched: Launch
    plan: Plan
    rows: list[tuple[int, Sequence]]
    count: int
    """Rows of the launch."""

    def of_the_living(self) -> "_Ready | None":
        """Without the sequences that have lost their blocks since; None when none is left."""
        rows = [(row, sequence) for row, sequence in self.rows if sequence.capacity]
        prefills = [chunk for chunk in self.plan.prefills if chunk.sequence.capacity]
        if len(rows) == len(self.rows) and len(prefills) == len(self.plan.prefills):
            return self
        plan = Plan([sequence for sequence in self.plan.decodes if sequence.capacity], prefills)
        return None if plan.is_empty else _Ready(self.launched, plan, rows, self.count)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A launch that is sampled, whose tokens are expected; by row, what took the place of a token."""

    launched: Launch
    plan: Plan
    rows: list[tuple[int, Sequence]]
    errors: dict[int, Exception]


class Pipeline:
    """Launch n + 1, wait for n, emit n, sample n + 1."""

    def __init__(
        self, runner: SamplingRunner, scheduler: Scheduler, batches: BatchBuilder, meter: RateMeter, taker: Taker
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._batches = batches
        self._meter = meter
        self._taker = taker
        self._flight: _Flight | None = None

    @property
    def in_flight(self) -> bool:
        """Whether a launch has not landed, be it of sequences that are gone."""
        return self._flight is not None

    def step(self, outputs: list[Output]) -> int:
        """Appends what came of the launch in flight, and leaves the next one in flight; returns the tokens it gave."""
        flight, self._flight = self._flight, None
        ready, tokens = None, 0
        if flight is None:
            self._meter.begin()
        else:
            ready = self._launch_ahead()
            landed = self._land(flight, outputs)
            ready = ready.of_the_living() if ready is not None and landed is not None else None
            tokens = landed or 0
        self._flight = self._start(ready, outputs)
        return tokens

    def _launch_ahead(self) -> _Ready | None:
        """Launches what can run while another launch does. If that does not fit, it is tried again when that landed."""
        plan = self._scheduler.schedule()
        if plan.is_empty:
            return None
        try:
            return self._launch(plan)
        except ResourceExhausted:
            return None

    def _start(self, ready: _Ready | None, outputs: list[Output]) -> _Flight | None:
        """Samples what is launched; where nothing is, launches the largest batch that the device's memory allows."""
        while True:
            plan = self._scheduler.schedule() if ready is None else ready.plan
            if plan.is_empty:
                return None
            try:
                return self._sample(ready or self._launch(plan))
            except ResourceExhausted as error:
                ready = None
                self._shrink(plan, error, outputs)

    def _launch(self, plan: Plan) -> _Ready:
        sampled = plan.sampled
        launched = self._runner.launch(self._batches.build(plan, sampled))
        return _Ready(launched, plan, list(enumerate(sampled)), len(sampled))

    def _sample(self, ready: _Ready) -> _Flight:
        states = [(row, sequence.sampler) for row, sequence in ready.rows]
        batch, errors = sampling_batch.build(states, ready.count)
        ready.launched.sample(batch)
        self._scheduler.advance(ready.plan)
        for row, sequence in ready.rows:
            sequence.expect(row)
        return _Flight(ready.launched, ready.plan, ready.rows, errors)

    def _land(self, flight: _Flight, outputs: list[Output]) -> int | None:
        """Waits for the tokens and gives them out; returns how many, None when the launch failed."""
        try:
            tokens = flight.launched.wait()
        except ResourceExhausted as error:
            for _, sequence in flight.rows:
                sequence.unexpect()
            self._scheduler.revoke(flight.plan)
            self._shrink(flight.plan, error, outputs)
            return None
        self._scheduler.settle(flight.plan, (sequence for _, sequence in flight.rows))
        self._meter.end(prefill_tokens=flight.plan.prefill_tokens, decode_tokens=len(flight.plan.decodes))
        self._meter.begin()
        sampled = sampling_batch.read(tokens, [(row, sequence.sampler) for row, sequence in flight.rows])
        for (row, sequence), token in zip(flight.rows, sampled, strict=True):
            sequence.unexpect()
            self._taker.take(sequence, flight.errors.get(row, token), outputs)
        return len(sampled)

    def _shrink(self, plan: Plan, error: ResourceExhausted, outputs: list[Output]) -> None:
        too_large = self._scheduler.shrink(plan)
        if too_large is not None:
            self._taker.take(too_large, error, outputs)
