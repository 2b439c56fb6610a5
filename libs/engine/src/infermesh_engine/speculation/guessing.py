"""What a sequence keeps for guesses of its next tokens."""

from dataclasses import dataclass

from infermesh_engine.speculation.drafter import Drafter
from infermesh_engine.speculation.prompt_index import SharedIndex


@dataclass(slots=True)
class Guessing:
    """What a sequence's guesses come from."""

    prediction: tuple[int, ...]
    """What the client expects its output to be; empty: nothing."""
    prompt: SharedIndex
    """What all choices of a request share of their drafters."""
    drafter: Drafter | None = None
    """Guesses the next tokens; None until that is tried."""
    read_to: int = 0
    """How many of the sequence's tokens the drafter has read."""
