"""Gathers the log probabilities of a prompt's tokens while the prompt is computed chunk by chunk."""

from dataclasses import dataclass

from infermesh_engine.requests.output import PromptLogprobs, TokenLogprob


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of a prompt: its log probability, the most probable ones in its place, and its rank; 0: not known."""

    logprob: TokenLogprob
    rank: int


class PromptScores:
    """The log probabilities of a prompt's tokens from the second on, as far as they are known."""

    __slots__ = ("_scored", "first", "top")

    def __init__(self, first: TokenLogprob, top: int) -> None:
        """`first`: the prompt's first token, which nothing comes before. `top`: alternatives with each token."""
        self.first = first
        self.top = top
        self._scored: list[ScoredToken] = []

    @property
    def known(self) -> int:
        """How many are known; the next one comes from the logits at this position."""
        return len(self._scored)

    def add(self, begin: int, scored: list[ScoredToken]) -> None:
        """Takes those from the logits at position `begin` on. What is known already, as after a preemption, is kept."""
        self._scored += scored[self.known - begin :]

    def output(self, request_id: str) -> PromptLogprobs:
        """All of them, for the client."""
        return PromptLogprobs(
            request_id,
            (self.first, *(each.logprob for each in self._scored)),
            (0, *(each.rank for each in self._scored)),
        )
