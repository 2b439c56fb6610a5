"""Overlaps steps: launches the next batch while the last one still runs. For runners that sample on their device.

Between two steps at most one launch is in flight. Its plan already counts as computed and its sequences expect their
tokens, so the scheduler plans the next step as if the tokens had arrived. What others could see of the launch (cached
blocks, followers, outputs) waits until it has landed. A sequence that turns out to have ended may already be in the
next launch; the token that it gets there is dropped.

A step that checks guesses is launched once the last one has landed, and landed before the next one is launched: how
many of its tokens count is not known before. So guesses cost the overlap, and `Speculation` measures what that costs.
"""

from dataclasses import dataclass
from functools import partial

from infermesh_engine.requests.output import Output
from infermesh_engine.runners.sampling_runner import Launch, SampledRows, SamplingRunner
from infermesh_engine.sampling import sampling_batch
from infermesh_engine.sampling.forced_rows import add_forced_rows
from infermesh_engine.sampling.sampler import SampledToken
from infermesh_engine.scheduling.batch_builder import BatchBuilder, first_rows
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.timing import note_prefills
from infermesh_engine.steps.drafted_rows import guessed_rows, right_guesses
from infermesh_engine.steps.live_requests import LiveRequests
from infermesh_engine.steps.rate_meter import RateMeter
from infermesh_engine.steps.scoring import Scoring, number_rows
from infermesh_engine.steps.speculation import Speculation
from infermesh_engine.steps.verification import Verification
from infermesh_runtime.errors import ResourceExhausted


@dataclass(frozen=True, slots=True)
class _Unsampled:
    """A launch whose forward pass is queued and whose tokens are not chosen yet."""

    launch: Launch
    plan: Plan
    rows: list[tuple[int, Sequence]]
    """The launch's sequences that still want a token, each with its first row."""
    count: int
    """Rows of the launch."""
    scoring: Scoring | None
    """The rows that score a prompt."""

    def without_removed(self) -> "_Unsampled | None":
        """Without the sequences that have lost their blocks since; None when none is left."""
        rows = [(row, sequence) for row, sequence in self.rows if sequence.capacity]
        prefills = [chunk for chunk in self.plan.prefills if chunk.sequence.capacity]
        if len(rows) == len(self.rows) and len(prefills) == len(self.plan.prefills):
            return self
        plan = Plan([sequence for sequence in self.plan.decodes if sequence.capacity], prefills)
        scoring = self.scoring if self.scoring is not None and self.scoring.sequence.capacity else None
        return None if plan.is_empty else _Unsampled(self.launch, plan, rows, self.count, scoring)


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A launch that will bring tokens."""

    launch: Launch
    plan: Plan
    rows: list[tuple[int, Sequence]]
    errors: dict[int, Exception]
    """By row: the error that its sequence gets in place of a token."""
    scoring: Scoring | None
    ahead: bool
    """Whether it was launched before the one before had landed."""

    def tokens_of(self, tokens: SampledRows, rows: list[tuple[int, Sequence]]) -> list[SampledToken | Exception]:
        """The tokens of some rows, each with its sequence."""
        sampled = sampling_batch.read(tokens, [(row, sequence.sampler) for row, sequence in rows])
        return [self.errors.get(row, token) for (row, _), token in zip(rows, sampled, strict=True)]


class OverlappedSteps:
    """Each step launches batch n + 1, waits for batch n, emits n and samples n + 1."""

    def __init__(
        self,
        runner: SamplingRunner,
        scheduler: Scheduler,
        batches: BatchBuilder,
        meter: RateMeter,
        requests: LiveRequests,
        *,
        speculation: Speculation | None = None,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._batches = batches
        self._meter = meter
        self._requests = requests
        self._speculation = speculation
        self._verification = Verification(scheduler, requests)
        self._flight: _InFlight | None = None

    @property
    def checked_guesses(self) -> tuple[int, int]:
        """How many guesses were checked since the start, and how many of them were right."""
        drafted = self._speculation.drafted if self._speculation is not None else 0
        return drafted, self._verification.accepted

    @property
    def in_flight(self) -> bool:
        """Whether a launch has not landed yet, even if all its sequences are gone."""
        return self._flight is not None

    def step(self, outputs: list[Output]) -> int:
        """Appends what came of the launch in flight and leaves the next one in flight; returns how many tokens came."""
        flight, self._flight = self._flight, None
        ahead, tokens = None, 0
        if flight is None:
            self._meter.begin()
        else:
            ahead = self._launch_ahead() if not self._awaits(flight.plan) else None
            landed = self._land(flight, outputs)
            ahead = ahead.without_removed() if ahead is not None and landed is not None else None
            tokens = landed or 0
        self._flight = self._start(ahead, outputs)
        return tokens

    def _awaits(self, plan: Plan) -> bool:
        """Whether the tokens of a plan must be known before the next launch."""
        return bool(plan.drafts) or (self._speculation is not None and self._speculation.awaits(plan))

    def _launch_ahead(self) -> _Unsampled | None:
        """Launches what can run behind the launch in flight. If it does not fit, `_start` tries again after landing."""
        plan = self._scheduler.schedule()
        if plan.is_empty:
            return None
        try:
            return self._launch(plan)
        except ResourceExhausted:
            return None

    def _start(self, ahead: _Unsampled | None, outputs: list[Output]) -> _InFlight | None:
        """Samples the launch made ahead, or launches the largest batch that fits in the device's memory."""
        while True:
            plan = self._plan() if ahead is None else ahead.plan
            if plan.is_empty:
                return None
            try:
                return self._sample(ahead or self._launch(plan), ahead=ahead is not None)
            except ResourceExhausted as error:
                ahead = None
                self._shrink(plan, error, outputs)

    def _plan(self) -> Plan:
        """The next step, with guesses where they are expected to pay; all tokens are known."""
        plan = self._scheduler.schedule()
        return plan if self._speculation is None else self._speculation.extend(plan)

    def _launch(self, plan: Plan) -> _Unsampled:
        sampled = plan.sampled
        scoring = Scoring.of(plan, sampled)
        batch = self._batches.build(plan, sampled)
        launch = self._runner.launch(batch)
        if plan.drafts:
            rows = list(zip(first_rows(plan, len(sampled)).tolist(), sampled, strict=True))
        else:
            rows = number_rows(sampled, scoring)
        return _Unsampled(launch, plan, rows, len(batch.rows), scoring)

    def _sample(self, unsampled: _Unsampled, *, ahead: bool) -> _InFlight:
        plan = unsampled.plan
        states = [(row, sequence.sampler) for row, sequence in unsampled.rows]
        if plan.drafts:
            firsts = unsampled.rows[len(plan.decodes) :]
            for draft, (row, _) in zip(plan.drafts, firsts, strict=False):
                states += guessed_rows(draft, row)
            states.sort(key=lambda state: state[0])
        batch, errors = sampling_batch.build(states, unsampled.count)
        if (scoring := unsampled.scoring) is not None:
            batch = add_forced_rows(batch, scoring.rows, scoring.token_ids, scoring.top)
        unsampled.launch.sample(batch)
        self._scheduler.advance(plan)
        for row, sequence in unsampled.rows:
            sequence.expect(row)
        return _InFlight(unsampled.launch, plan, unsampled.rows, errors, scoring, ahead)

    def _land(self, flight: _InFlight, outputs: list[Output]) -> int | None:
        """Waits for the tokens and delivers them; returns how many, or None when the launch failed."""
        try:
            tokens = flight.launch.wait()
        except ResourceExhausted as error:
            for _, sequence in flight.rows:
                sequence.unexpect()
            self._scheduler.revoke(flight.plan)
            self._shrink(flight.plan, error, outputs)
            return None
        self._scheduler.settle(flight.plan, (sequence for _, sequence in flight.rows))
        began_s = self._meter.begun_s
        self._measure(flight, tokens)
        self._meter.begin()
        if flight.plan.prefills:
            note_prefills(flight.plan.prefills, began_s=began_s, now_s=self._meter.begun_s)
        if flight.scoring is not None:
            self._requests.deliver_scores(flight.scoring, partial(flight.scoring.from_device, tokens), outputs)
        return self._deliver(flight, tokens, outputs)

    def _measure(self, flight: _InFlight, tokens: SampledRows) -> None:
        plan = flight.plan
        decoded = len(plan.decodes)
        for draft, (row, _) in zip(plan.drafts, flight.rows[decoded:], strict=False):
            decoded += 1 + right_guesses(draft, row, tokens)
        seconds = self._meter.end(prefill_tokens=plan.prefill_tokens, decode_tokens=decoded)
        if self._speculation is not None:
            self._speculation.ran(plan, seconds, typical=flight.ahead or bool(plan.drafts))

    def _deliver(self, flight: _InFlight, tokens: SampledRows, outputs: list[Output]) -> int:
        """Delivers the tokens of a launch that has landed; returns how many."""
        for _, sequence in flight.rows:
            sequence.unexpect()
        drafts, first = flight.plan.drafts, len(flight.plan.decodes)
        last = first + len(drafts)
        plain = [*flight.rows[:first], *flight.rows[last:]] if drafts else flight.rows
        for (_, sequence), token in zip(plain, flight.tokens_of(tokens, plain), strict=True):
            self._requests.deliver(sequence, token, outputs)
        if not drafts:
            return len(plain)
        more = partial(flight.tokens_of, tokens)
        drafted = flight.rows[first:last]
        rows = [row for row, _ in drafted]
        return len(plain) + self._verification.finish(drafts, rows, more(drafted), more, outputs)

    def _shrink(self, plan: Plan, error: ResourceExhausted, outputs: list[Output]) -> None:
        """Makes the next plan smaller than this one, which did not fit in the device's memory."""
        if plan.drafts and self._speculation is not None:
            self._speculation.give_up(plan)
            return
        too_large = self._scheduler.shrink(plan)
        if too_large is not None:
            self._requests.deliver(too_large, error, outputs)
