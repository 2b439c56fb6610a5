"""What the user of `infermesh chat` wants of every answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh_client.request import AnswerOptions

_NO_LIMIT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Options for every answer of a chat; None takes the model's default, or ours for models that have none."""

    system: str | None
    model: str
    device: str
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    """0: as many as fit in the context."""
    images: Sequence[Path] = ()
    """Image files that the question is about; only for one question."""

    def for_answers(self, defaults: AnswerOptions) -> AnswerOptions:
        """The options in the form that the SDK takes, without model and device."""
        options = AnswerOptions(**defaults)
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.top_p is not None:
            options["top_p"] = self.top_p
        if self.max_tokens is not None:
            options["max_tokens"] = self.max_tokens or _NO_LIMIT
        return options
