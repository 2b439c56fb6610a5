"""Measures how long a sequence's prompt and its output took to compute."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from infermesh_engine.requests.output import Timings

if TYPE_CHECKING:
    from infermesh_engine.scheduling.plan import PrefillChunk
    from infermesh_engine.scheduling.sequence import Sequence


class SequenceTiming:
    """When the prompt of a sequence began and ended to be computed, in seconds of the engine's clock."""

    __slots__ = (
        "accepted_predicted_tokens",
        "accepted_tokens",
        "began_s",
        "drafted_tokens",
        "predicted_tokens",
        "prefilled_s",
        "replayed_tokens",
    )

    def __init__(self) -> None:
        self.began_s: float | None = None
        self.prefilled_s: float | None = None
        self.replayed_tokens = 0
        """Tokens of the output that another engine generated."""
        self.drafted_tokens = 0
        """Guesses of its tokens that steps checked."""
        self.accepted_tokens = 0
        """Those that were right."""
        self.predicted_tokens = 0
        """Checked guesses that came from the output that the client predicted."""
        self.accepted_predicted_tokens = 0
        """Those that were right."""


def note_prefills(chunks: "Iterable[PrefillChunk]", *, began_s: float, now_s: float) -> None:
    """Records a step that computed these chunks. What a preempted sequence computes again does not count."""
    for chunk in chunks:
        timing = chunk.sequence.timing
        if timing.began_s is None:
            timing.began_s = began_s
        if timing.prefilled_s is None and chunk.sequence.computed >= chunk.sequence.prompt_tokens:
            timing.prefilled_s = now_s


def timings(sequence: "Sequence", now_s: float) -> Timings:
    """The timings of a sequence that ends now. Those of the prompt belong to choice 0."""
    timing = sequence.timing
    prefilled_s = now_s if timing.prefilled_s is None else timing.prefilled_s
    began_s = prefilled_s if timing.began_s is None else timing.began_s
    is_first = sequence.choice == 0
    return Timings(
        prompt_tokens=sequence.prompt_tokens - sequence.cached_tokens if is_first else 0,
        prompt_ms=1000 * (prefilled_s - began_s) if is_first else 0.0,
        completion_tokens=sequence.completion_tokens - timing.replayed_tokens,
        completion_ms=1000 * (now_s - prefilled_s),
        drafted_tokens=timing.drafted_tokens,
        accepted_tokens=timing.accepted_tokens,
    )
