"""What a reference is asked and what it answers when an imported model is compared with its source."""

from collections.abc import Sequence
from dataclasses import dataclass

NEAR_TIE = 1e-2
"""A token whose logit is at most this far below the highest counts as the most probable one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The tokens of one prompt, and those that the imported model added, each the most probable one to it."""

    prompt: Sequence[int]
    output: Sequence[int]

    @property
    def fed(self) -> Sequence[int]:
        """The tokens that the reference reads: all but the last."""
        return [*self.prompt, *self.output][:-1]

    @property
    def rows(self) -> slice:
        """Which of its outputs stand for the tokens of `output`."""
        return slice(len(self.prompt) - 1, len(self.prompt) - 1 + len(self.output))


class NoReferenceError(Exception):
    """There is no reference for a model; the message says why."""
