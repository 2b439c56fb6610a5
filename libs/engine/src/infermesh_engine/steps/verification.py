"""Checks the guesses of a step: samples at each position as if it were the next step's, and goes on while they match.

Each token is sampled by its own sequence's state, after that has seen the token before. So the tokens are those that
steps without guesses give, as far as the runner's logits are.
"""

from collections.abc import Callable
from collections.abc import Sequence as Values

from infermesh_engine.requests.output import Delta, Output
from infermesh_engine.sampling.sampler import SampledToken
from infermesh_engine.scheduling.plan import Draft
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.steps.live_requests import LiveRequests

Token = SampledToken | Exception
TokensOf = Callable[[list[tuple[int, Sequence]]], Values[Token]]
"""The tokens of rows of the step's logits, each with the sequence that it belongs to, whose state has come that far."""


class Verification:
    """The drafts of one step."""

    def __init__(self, scheduler: Scheduler, requests: LiveRequests) -> None:
        self.accepted = 0
        """Guesses that were right, since the start."""
        self._scheduler = scheduler
        self._requests = requests

    def finish(
        self,
        drafts: Values[Draft],
        rows: Values[int],
        tokens: Values[Token],
        tokens_of: TokensOf,
        outputs: list[Output],
    ) -> int:
        """Delivers the tokens of drafts; returns how many.

        `rows`: each draft's first row; `tokens`: what these rows gave; `tokens_of`: says what further rows give.
        """
        began = len(outputs)
        for draft in drafts:
            draft.sequence.timing.drafted_tokens += len(draft.token_ids)
            draft.sequence.timing.predicted_tokens += draft.predicted
        delivered, at = 0, 0
        live = list(zip(drafts, rows, tokens, strict=True))
        while live:
            goes_on = [(draft, row) for draft, row, token in live if self._deliver(draft, at, token, outputs)]
            delivered, at = delivered + len(live), at + 1
            for draft, _ in goes_on:
                self._scheduler.accept(draft.sequence)
            if not goes_on:
                break
            sampled = tokens_of([(row + at, draft.sequence) for draft, row in goes_on])
            live = [(draft, row, token) for (draft, row), token in zip(goes_on, sampled, strict=True)]
        for draft in drafts:
            self._scheduler.trim(draft.sequence)
        outputs[began:] = _merged(outputs[began:])
        return delivered

    def _deliver(self, draft: Draft, at: int, token: Token, outputs: list[Output]) -> bool:
        """Delivers token `at` of a draft; returns whether the sequence goes on and the guess of that token was right.

        The logits of the next position are of use only then.
        """
        sequence, guesses = draft.sequence, draft.token_ids
        right = at < len(guesses) and isinstance(token, SampledToken) and token.token_id == guesses[at]
        if right:
            self.accepted += 1
            sequence.timing.accepted_tokens += 1
            sequence.timing.accepted_predicted_tokens += at < draft.predicted
        return self._requests.deliver(sequence, token, outputs) and right


def _merged(outputs: Values[Output]) -> list[Output]:
    """The outputs of one step with one Delta for each choice."""
    merged: list[Output] = []
    places: dict[tuple[str, int], int] = {}
    for output in outputs:
        if isinstance(output, Delta):
            place = places.setdefault((output.request_id, output.choice), len(merged))
            if place < len(merged):
                before = merged[place]
                if isinstance(before, Delta):
                    merged[place] = _joined(before, output)
                continue
        merged.append(output)
    return merged


def _joined(first: Delta, second: Delta) -> Delta:
    return Delta(
        first.request_id,
        first.choice,
        first.text + second.text,
        first.token_ids + second.token_ids,
        first.logprobs + second.logprobs,
    )
