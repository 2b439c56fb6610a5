"""Runs one step after another: schedule, run, sample, emit. For runners that return logits."""

from functools import partial

import numpy as np

from infermesh_engine.requests.output import Output
from infermesh_engine.runners.runner import Logits, ModelRunner
from infermesh_engine.sampling.picked_rows import PickedRows
from infermesh_engine.sampling.sampler import SampledToken, sample
from infermesh_engine.scheduling.batch_builder import BatchBuilder, first_rows
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.timing import note_prefills
from infermesh_engine.steps.live_requests import LiveRequests
from infermesh_engine.steps.rate_meter import RateMeter
from infermesh_engine.steps.scoring import Scoring, number_rows, pick_rows
from infermesh_engine.steps.speculation import Speculation
from infermesh_engine.steps.verification import Verification
from infermesh_runtime.errors import ResourceExhausted


class SerialSteps:
    """Steps that do not overlap."""

    in_flight = False
    """Nothing is left running between two steps."""

    def __init__(
        self,
        runner: ModelRunner,
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

    def step(self, outputs: list[Output]) -> int:
        """Runs one batch, appends what came of it to `outputs`, and returns how many tokens it gave."""
        self._meter.begin()
        plan, sampled, logits = self._schedule_and_run(outputs)
        if logits is not None and (scoring := Scoring.of(plan, sampled)) is not None:
            logits = self._score(scoring, sampled, logits, outputs)
        self._scheduler.commit(plan)
        if plan.prefills:
            note_prefills(plan.prefills, began_s=self._meter.begun_s, now_s=self._meter.now())
        delivered = self._sample(plan, sampled, logits, outputs) if logits is not None and sampled else 0
        decoded = delivered - (len(sampled) - len(plan.decoding))
        seconds = self._meter.end(prefill_tokens=plan.prefill_tokens, decode_tokens=decoded)
        if self._speculation is not None:
            self._speculation.ran(plan, seconds)
        return delivered

    @property
    def checked_guesses(self) -> tuple[int, int]:
        """How many guesses were checked since the start, and how many of them were right."""
        drafted = self._speculation.drafted if self._speculation is not None else 0
        return drafted, self._verification.accepted

    def _sample(self, plan: Plan, sampled: list[Sequence], logits: Logits, outputs: list[Output]) -> int:
        """Delivers the tokens of all sequences; returns how many."""
        states = [sequence.sampler for sequence in sampled]
        if not plan.drafts:
            for sequence, token in zip(sampled, sample(logits, states), strict=True):
                self._requests.deliver(sequence, token, outputs)
            return len(sampled)
        rows = first_rows(plan, len(sampled))
        tokens = sample(PickedRows(logits, rows), states)
        first, last = len(plan.decodes), len(plan.decodes) + len(plan.drafts)
        plain = [*range(first), *range(last, len(sampled))]
        for index in plain:
            self._requests.deliver(sampled[index], tokens[index], outputs)
        more = partial(_sample_rows, logits)
        drafted = self._verification.finish(plan.drafts, rows[first:last].tolist(), tokens[first:last], more, outputs)
        return len(plain) + drafted

    def _score(self, scoring: Scoring, sampled: list[Sequence], logits: Logits, outputs: list[Output]) -> Logits:
        """Delivers the log probabilities of a prompt's tokens; returns the logits of the sampled sequences."""
        self._requests.deliver_scores(scoring, partial(scoring.from_host, logits), outputs)
        return pick_rows(logits, number_rows(sampled, scoring))

    def _schedule_and_run(self, outputs: list[Output]) -> tuple[Plan, list[Sequence], Logits | None]:
        """Runs the largest batch that fits in the device's memory; no logits when there is nothing to run."""
        while True:
            plan = self._scheduler.schedule()
            if self._speculation is not None:
                plan = self._speculation.extend(plan)
            sampled = plan.sampled
            if plan.is_empty:
                return plan, sampled, None
            try:
                return plan, sampled, self._runner.run(self._batches.build(plan, sampled))
            except ResourceExhausted as error:
                if plan.drafts and self._speculation is not None:
                    self._speculation.give_up(plan)
                    continue
                too_large = self._scheduler.shrink(plan)
                if too_large is not None:
                    self._requests.deliver(too_large, error, outputs)


def _sample_rows(logits: Logits, rows: list[tuple[int, Sequence]]) -> list[SampledToken | Exception]:
    """The tokens of some rows, each with its sequence."""
    index = np.array([row for row, _ in rows], dtype=np.int64)
    return sample(PickedRows(logits, index), [sequence.sampler for _, sequence in rows])
