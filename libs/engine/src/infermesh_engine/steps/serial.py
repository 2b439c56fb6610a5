"""Runs one step after another: schedule, run, sample, emit. For runners that return logits."""

from functools import partial

from infermesh_engine.requests.output import Output
from infermesh_engine.runners.runner import Logits, ModelRunner
from infermesh_engine.sampling.sampler import sample
from infermesh_engine.scheduling.batch_builder import BatchBuilder
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.timing import note_prefills
from infermesh_engine.steps.live_requests import LiveRequests
from infermesh_engine.steps.rate_meter import RateMeter
from infermesh_engine.steps.scoring import Scoring, number_rows, pick_rows
from infermesh_runtime.errors import ResourceExhausted


class SerialSteps:
    """Steps that do not overlap."""

    in_flight = False
    """Nothing is left running between two steps."""

    def __init__(
        self, runner: ModelRunner, scheduler: Scheduler, batches: BatchBuilder, meter: RateMeter, requests: LiveRequests
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._batches = batches
        self._meter = meter
        self._requests = requests

    def step(self, outputs: list[Output]) -> int:
        """Runs one batch, appends what came of it to `outputs`, and returns how many tokens it gave."""
        self._meter.begin()
        plan, sampled, logits = self._schedule_and_run(outputs)
        if logits is not None and (scoring := Scoring.of(plan, sampled)) is not None:
            logits = self._score(scoring, sampled, logits, outputs)
        self._scheduler.commit(plan)
        if plan.prefills:
            note_prefills(plan.prefills, began_s=self._meter.begun_s, now_s=self._meter.now())
        tokens = sample(logits, [sequence.sampler for sequence in sampled]) if logits is not None and sampled else ()
        for sequence, token in zip(sampled, tokens, strict=True):
            self._requests.deliver(sequence, token, outputs)
        self._meter.end(prefill_tokens=plan.prefill_tokens, decode_tokens=len(plan.decodes))
        return len(sampled)

    def _score(self, scoring: Scoring, sampled: list[Sequence], logits: Logits, outputs: list[Output]) -> Logits:
        """Delivers the log probabilities of a prompt's tokens; returns the logits of the sampled sequences."""
        self._requests.deliver_scores(scoring, partial(scoring.from_host, logits), outputs)
        return pick_rows(logits, number_rows(sampled, scoring))

    def _schedule_and_run(self, outputs: list[Output]) -> tuple[Plan, list[Sequence], Logits | None]:
        """Runs the largest batch that fits in the device's memory; no logits when there is nothing to run."""
        while True:
            plan = self._scheduler.schedule()
            sampled = plan.sampled
            if plan.is_empty:
                return plan, sampled, None
            try:
                return plan, sampled, self._runner.run(self._batches.build(plan, sampled))
            except ResourceExhausted as error:
                too_large = self._scheduler.shrink(plan)
                if too_large is not None:
                    self._requests.deliver(too_large, error, outputs)
