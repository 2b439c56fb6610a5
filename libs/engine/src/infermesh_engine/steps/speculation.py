"""Adds guesses of further tokens to steps that decode, where checking them is expected to pay."""

from dataclasses import replace

from infermesh_engine.runners.runner import SCORED_ROWS
from infermesh_engine.scheduling.plan import Draft, Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.speculation.acceptance import AcceptanceRates, SharedRates
from infermesh_engine.speculation.allocation import allocate
from infermesh_engine.speculation.drafter import Drafter
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_engine.speculation.step_costs import StepCosts

_PROBE_STEPS = 64
"""After so many steps of one kind, with guesses or without, one of the other kind is run to measure it again."""
_MOST_PROBE_STEPS = 1024
_PROBE_GUESSES = 2
_PAUSE_STEPS = 32
"""Steps without guesses after a batch with some did not fit in the device's memory."""


class Speculation:
    """Guesses the next tokens of sequences from their own text, and decides how many of them each step checks."""

    def __init__(self, options: SpeculationOptions, scheduler: Scheduler) -> None:
        self.drafted = 0
        """Guesses checked since the start."""
        self._options = options
        self._scheduler = scheduler
        self._rates = SharedRates()
        self._costs = StepCosts()
        self._steps_with = 0
        self._steps_without = 0
        self._probe_after = _PROBE_STEPS
        self._pause = 0

    def extend(self, plan: Plan) -> Plan:
        """The plan with guesses for some of its decodes, or as it is."""
        if not plan.decodes or plan.scoring is not None or (self._options.mode == "auto" and plan.prefills):
            return plan
        if self._pause:
            self._pause -= 1
            return plan
        guessing, most = self._candidates(plan)
        if not guessing:
            return plan
        if self._options.mode == "always":
            counts = most
        else:
            counts = self._choose(guessing, most, len(plan.decodes), self._room(plan))
        drafts = self._drafts(guessing, counts, self._room(plan))
        if not drafts:
            return plan
        drafted = {id(draft.sequence) for draft in drafts}
        return replace(plan, decodes=[s for s in plan.decodes if id(s) not in drafted], drafts=drafts)

    def ran(self, plan: Plan, seconds: float) -> None:
        """Measures a step that took so long."""
        if not plan.prefills and (rows := plan.decode_rows):
            self._costs.add(rows, seconds)
        self.drafted += plan.decode_rows - len(plan.decoding)

    def give_up(self, plan: Plan) -> None:
        """Guesses nothing for a while, because a plan with guesses did not fit in the device's memory."""
        self._pause = _PAUSE_STEPS
        for draft in plan.drafts:
            self._scheduler.trim(draft.sequence)

    def _candidates(self, plan: Plan) -> tuple[list[Sequence], list[int]]:
        """The sequences that have guesses, and how many each may have."""
        guessing, most = [], []
        for sequence in plan.decodes:
            drafter = sequence.drafter
            if drafter is None:
                drafter = sequence.drafter = self._drafter(sequence)
            elif (new := sequence.num_tokens - sequence.drafted_to) > 0:
                drafter.extend(sequence.tokens.view[-new:].tolist())
            sequence.drafted_to = sequence.num_tokens
            room = min(self._options.max_tokens, sequence.limit - sequence.num_tokens - 1)
            if room > 0 and drafter.has_guess:
                guessing.append(sequence)
                most.append(room)
        return guessing, most

    def _drafter(self, sequence: Sequence) -> Drafter:
        rates = AcceptanceRates(self._rates)
        tokens, prompt = sequence.tokens.view, sequence.prompt_tokens
        drafter = Drafter(tokens[:prompt], sequence.prediction, rates)
        drafter.extend(tokens[prompt:].tolist())
        return drafter

    def _choose(self, guessing: list[Sequence], most: list[int], decodes: int, room: int) -> list[int]:
        """How many guesses of each to check."""
        chances = [
            sequence.drafter.chances(count)
            for sequence, count in zip(guessing, most, strict=True)
            if sequence.drafter is not None
        ]
        counts = allocate(chances, decodes, self._costs.estimate, min(room, self._costs.reach(decodes) - decodes))
        if any(counts):
            self._steps_without, self._probe_after = 0, _PROBE_STEPS
            self._steps_with += 1
            if self._steps_with < _PROBE_STEPS and (self._costs.measured(decodes) or self._steps_with % 8):
                return counts
            self._steps_with = 0
            return [0] * len(counts)
        self._steps_with = 0
        likely = [each[0] > 0.5 for each in chances]  # checking it is likely to give a token
        self._steps_without += any(likely)
        if self._steps_without < self._probe_after:
            return counts
        self._steps_without, self._probe_after = 0, min(2 * self._probe_after, _MOST_PROBE_STEPS)
        return [_PROBE_GUESSES * each for each in likely]

    def _room(self, plan: Plan) -> int:
        return min(SCORED_ROWS, self._scheduler.spare_tokens(plan))

    def _drafts(self, guessing: list[Sequence], counts: list[int], room: int) -> list[Draft]:
        drafts = []
        for sequence, count in zip(guessing, counts, strict=True):
            granted = self._scheduler.reserve(sequence, min(count, room)) if min(count, room) > 0 else 0
            if granted < 1 or sequence.drafter is None:
                continue
            guesses = tuple(sequence.drafter.draft(granted))
            predicted = sequence.drafter.from_prediction(len(guesses))
            drafts.append(Draft(sequence, guesses, predicted))
            room -= len(guesses)
        return drafts
