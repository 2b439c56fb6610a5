"""What one step computes: sequences that decode a token, drafts to check, and chunks of prompts to prefill."""

from dataclasses import dataclass, field

from infermesh_engine.runners.runner import SCORED_ROWS
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

    @property
    def scored(self) -> range:
        """The positions whose logits score tokens of the prompt. Correct only until the plan is committed."""
        sequence, scores = self.sequence, self.sequence.scores
        if scores is None:
            return range(0)
        begin = max(sequence.computed, scores.known)
        return range(begin, max(begin, min(sequence.computed + self.tokens, sequence.prompt_tokens - 1)))


@dataclass(frozen=True, slots=True)
class Draft:
    """A sequence that decodes a token, with guesses of the tokens after it, which the step checks."""

    sequence: Sequence
    token_ids: tuple[int, ...]
    """The guesses, at least one. The KV of each is computed, and counts only if the guess is right."""
    predicted: int = 0
    """How many of them, the first ones, come from the output that the client predicted."""

    @property
    def tokens(self) -> int:
        """Tokens that the step computes, and rows of logits that it needs."""
        return 1 + len(self.token_ids)


class ChunkList:
    """The chunks of one step. At most one prompt is scored in it, by so few tokens that their logits fit in memory."""

    def __init__(self) -> None:
        self._chunks: list[PrefillChunk] = []
        self._scoring: PrefillChunk | None = None

    @property
    def is_empty(self) -> bool:
        return not self._chunks and self._scoring is None

    @property
    def ordered(self) -> list[PrefillChunk]:
        """The chunks in the order of the batch; the one that is scored comes last."""
        return self._chunks if self._scoring is None else [*self._chunks, self._scoring]

    def add(self, chunk: PrefillChunk) -> int:
        """Adds a chunk; returns how many of its tokens are in this step. None are if another prompt is scored."""
        if not chunk.sequence.is_scoring:
            self._chunks.append(chunk)
            return chunk.tokens
        if self._scoring is not None:
            return 0
        self._scoring = PrefillChunk(chunk.sequence, min(chunk.tokens, SCORED_ROWS))
        return self._scoring.tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: sequences that decode one token each, then drafts, then prefill chunks."""

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[PrefillChunk] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    """Of sequences that are not in `decodes`."""

    @property
    def is_empty(self) -> bool:
        return not self.decodes and not self.prefills and not self.drafts

    @property
    def decoding(self) -> list[Sequence]:
        """The sequences that decode, with a draft or without, in the order of the batch."""
        return self.decodes + [draft.sequence for draft in self.drafts] if self.drafts else self.decodes

    @property
    def decode_rows(self) -> int:
        """Rows of logits of the sequences that decode."""
        return len(self.decodes) + sum(draft.tokens for draft in self.drafts)

    @property
    def scoring(self) -> PrefillChunk | None:
        """The chunk whose prompt is scored, if there is one: the last. Correct only until the plan is committed."""
        return self.prefills[-1] if self.prefills and self.prefills[-1].sequence.is_scoring else None

    @property
    def prefill_tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.prefills)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token, in the order of the batch. Correct only until the plan is committed."""
        return self.decoding + [chunk.sequence for chunk in self.prefills if chunk.completes]
