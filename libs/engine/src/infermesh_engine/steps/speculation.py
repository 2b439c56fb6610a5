"""Adds guesses of further tokens to steps that decode, where checking them is expected to pay."""

from dataclasses import replace

from infermesh_engine.runners.runner import SCORED_ROWS
from infermesh_engine.scheduling.plan import Draft, Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.speculation.allocation import allocate, may_pay
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_engine.speculation.step_costs import StepCosts
from infermesh_engine.steps.candidates import Candidate, Candidates

_PROBE_STEPS = 64
"""After so many steps of one kind, with guesses or without, one of the other kind is run to measure it again."""
_MOST_PROBE_STEPS = 1024
_NEW_SIZE = 8
"""The same for a batch without guesses that has not been measured yet."""
_PROBES = 4
"""Steps with guesses that measure again: more than half of those that count."""
_PROBE_GUESSES = 2
_LIKELY = 0.5
"""Chance from which on a guess is worth a step that measures."""
_PLAIN_STEPS = 2
"""Steps without guesses that a runner which is given steps ahead runs to measure them, after the first, for which it
waited."""
_PAUSE_STEPS = 32
"""Steps without guesses after a batch with some did not fit in the device's memory."""


class Speculation:
    """Guesses the next tokens of sequences from their own text, and decides how many of them each step checks."""

    def __init__(self, options: SpeculationOptions, scheduler: Scheduler) -> None:
        self.drafted = 0
        """Guesses checked since the start."""
        self._options = options
        self._scheduler = scheduler
        self._candidates = Candidates(options.max_tokens)
        self._costs = StepCosts()
        self._steps_with = 0
        self._steps_without = 0
        self._plain_steps = 0
        self._probe_after = _PROBE_STEPS
        self._pause = 0

    def extend(self, plan: Plan) -> Plan:
        """The plan with guesses for some of its decodes, or as it is."""
        if not plan.decodes or plan.scoring is not None or (self._options.mode == "auto" and plan.prefills):
            return plan
        if self._pause:
            self._pause -= 1
            return plan
        room = min(SCORED_ROWS, self._scheduler.spare_tokens(plan))
        if not self._may_pay(len(plan.decodes), room):
            return plan
        candidates = self._candidates.find(plan.decodes)
        if not candidates:
            return plan
        drafts = self._drafts(candidates, self._choose(candidates, len(plan.decodes), room), room)
        if not drafts:
            return plan
        drafted = {id(draft.sequence) for draft in drafts}
        return replace(plan, decodes=[s for s in plan.decodes if id(s) not in drafted], drafts=drafts)

    def awaits(self, plan: Plan) -> bool:
        """Whether the step after `plan`, which is running, should wait for its tokens, because it is likely to check
        guesses.

        For runners that could be given that step at once. They gain by guesses only if the next token is right, too.
        """
        if plan.prefills or not plan.decodes:
            return False
        if self._pause:  # the step launched ahead does not come to `extend`, which counts the others
            self._pause -= 1
            return False
        if self._plain_steps:
            self._plain_steps -= 1
            return False
        decodes = len(plan.decodes)
        room = min(SCORED_ROWS, self._scheduler.spare_tokens(plan))
        if not self._may_pay(decodes, room):
            return False
        candidates = self._candidates.find(plan.decodes, expected=1)
        if self._options.mode == "always":
            return bool(candidates)
        chances = [candidate.drafter.chances(candidate.most + 1)[1:] for candidate in candidates]
        cost, most = self._costs.growing_from(decodes), min(room, self._costs.reach(decodes) - decodes)
        return any(allocate(chances, decodes, cost, most)) or self._measures(chances)

    def _measures(self, chances: list[list[float]]) -> bool:
        """Whether the next step should measure what guesses cost, if it can; counts it if it should not."""
        likely = any(each and each[0] > _LIKELY for each in chances)
        if self._steps_without < self._probe_after - 1:
            self._steps_without += likely
            return False
        return likely

    def ran(self, plan: Plan, seconds: float, *, typical: bool = True) -> None:
        """Measures a step that took so long. `typical`: whether steps of its kind take so long."""
        if typical and not plan.prefills and (rows := plan.decode_rows):
            self._costs.add(rows, seconds)
        self.drafted += plan.decode_rows - len(plan.decoding)

    def give_up(self, plan: Plan) -> None:
        """Guesses nothing for a while, because a plan with guesses did not fit in the device's memory."""
        self._pause = _PAUSE_STEPS
        for draft in plan.drafts:
            self._scheduler.trim(draft.sequence)

    def _may_pay(self, decodes: int, room: int) -> bool:
        """Whether to look for guesses at all; also now and then where times say that they do not pay."""
        most = min(room, self._costs.reach(decodes) - decodes, decodes * self._options.max_tokens)
        if self._options.mode == "always" or may_pay(decodes, self._costs.growing_from(decodes), most):
            return True
        if self._steps_without < self._probe_after - 1:
            self._steps_without += 1
            return False
        return True  # `_choose` counts this step, if it measures

    def _choose(self, candidates: list[Candidate], decodes: int, room: int) -> list[int]:
        """How many guesses of each to check."""
        if self._options.mode == "always":
            return [candidate.most for candidate in candidates]
        chances = [candidate.drafter.chances(candidate.most) for candidate in candidates]
        cost, most = self._costs.growing_from(decodes), min(room, self._costs.reach(decodes) - decodes)
        counts = allocate(chances, decodes, cost, most)
        if any(counts):
            self._steps_without, self._probe_after = 0, _PROBE_STEPS
            self._steps_with += 1
            if self._steps_with < _PROBE_STEPS and (self._costs.measured(decodes) or self._steps_with % _NEW_SIZE):
                return counts
            self._steps_with, self._plain_steps = 0, _PLAIN_STEPS
            return [0] * len(counts)
        self._steps_with = 0
        likely = [bool(each) and each[0] > _LIKELY for each in chances]
        self._steps_without += any(likely)
        if self._steps_without < self._probe_after:
            return counts
        if self._steps_without >= self._probe_after + _PROBES - 1:
            self._steps_without, self._probe_after = 0, min(2 * self._probe_after, _MOST_PROBE_STEPS)
        return [likely[at] * min(_PROBE_GUESSES, candidate.most) for at, candidate in enumerate(candidates)]

    def _drafts(self, candidates: list[Candidate], counts: list[int], room: int) -> list[Draft]:
        """Drafts with so many guesses, as far as there is room."""
        drafts = []
        for (sequence, drafter, _), count in zip(candidates, counts, strict=True):
            wanted = min(count, room)
            granted = self._scheduler.reserve(sequence, wanted) if wanted > 0 else 0
            if granted < 1:
                continue
            guesses = tuple(drafter.draft(granted))
            drafts.append(Draft(sequence, guesses, drafter.from_prediction(len(guesses))))
            room -= len(guesses)
        return drafts
