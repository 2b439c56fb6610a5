"""What one step computes: sequences that decode a token, and chunks of prompts to prefill."""

from dataclasses import dataclass, field

from infermesh_engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """The next `tokens` tokens of a sequence, to be prefilled."""

    sequence: Sequence
    tokens: int

    @property
    def completes(self) -> bool:
        """Whether the chunk reaches the sequence's last token, so that its next token can be sampled."""
        return self.tokens == self.sequence.pending


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: sequences that decode one token each, then prefill chunks."""

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[PrefillChunk] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.decodes and not self.prefills

    @property
    def prefill_tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.prefills)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token, in the order of the batch. Correct only until the plan is committed."""
        return self.decodes + [chunk.sequence for chunk in self.prefills if chunk.completes]
