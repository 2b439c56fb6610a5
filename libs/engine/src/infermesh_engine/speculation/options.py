"""Says when an engine guesses tokens ahead."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationOptions:
    """When to guess tokens ahead."""

    mode: Literal["off", "auto", "always"] = "off"
    """auto: where it is expected to pay, by measured rates of right guesses and times of steps. always: whenever there
    is a guess and room for it."""
    max_tokens: int = 8
    """Most guesses of a sequence in one step."""
