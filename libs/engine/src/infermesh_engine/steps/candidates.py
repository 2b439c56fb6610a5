"""Finds the sequences of a step whose next tokens can be guessed; lets their drafters read what came since."""

from collections.abc import Iterable
from typing import NamedTuple

from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.speculation.acceptance import AcceptanceRates, SharedRates
from infermesh_engine.speculation.drafter import Drafter
from infermesh_engine.speculation.prompt_index import MOST_INDEXED, PromptIndex


class Candidate(NamedTuple):
    """A sequence that has guesses, and how many it may have."""

    sequence: Sequence
    drafter: Drafter
    most: int


class Candidates:
    """Finds candidates."""

    def __init__(self, most: int) -> None:
        """`most`: guesses of a sequence in one step."""
        self._most = most
        self._rates = SharedRates()

    def find(self, sequences: Iterable[Sequence], *, expected: int = 0) -> list[Candidate]:
        """The sequences that have guesses. Those with too much to read for one step are left to the next ones.

        `expected`: how many tokens at the end of each are not known yet.
        """
        candidates = []
        room = MOST_INDEXED
        for sequence in sequences:
            if room <= 0:
                break
            room -= _unread(sequence)
            end = sequence.num_tokens - expected
            guessing = sequence.guessing
            drafter = guessing.drafter
            if drafter is None:
                drafter = guessing.drafter = self._drafter(sequence, end)
            elif end > guessing.read_to:
                drafter.extend(sequence.tokens.view[guessing.read_to : end].tolist())
            guessing.read_to = end
            most = min(self._most, sequence.limit - sequence.num_tokens - 1)
            if most > 0 and drafter.has_guess:
                candidates.append(Candidate(sequence, drafter, most))
        return candidates

    def _drafter(self, sequence: Sequence, end: int) -> Drafter:
        tokens, prompt, shared = sequence.tokens.view, sequence.prompt_tokens, sequence.guessing.prompt
        if shared.made is None:
            shared.made = PromptIndex(tokens[:prompt], sequence.guessing.prediction)
        drafter = Drafter(shared.made, AcceptanceRates(self._rates))
        drafter.extend(tokens[prompt:end].tolist())
        return drafter


def _unread(sequence: Sequence) -> int:
    """How many tokens its drafter has to read before it guesses."""
    guessing = sequence.guessing
    if guessing.drafter is not None:
        return sequence.num_tokens - guessing.read_to
    if guessing.prompt.made is not None:
        return sequence.completion_tokens
    prompt, predicted = min(sequence.prompt_tokens, MOST_INDEXED), min(len(guessing.prediction), MOST_INDEXED)
    return prompt + predicted + sequence.completion_tokens
