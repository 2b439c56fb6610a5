"""What a format's parser works with during one answer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from infermesh_runtime.answer_parsing.answer import Answer
from infermesh_runtime.answer_parsing.parts import Tools
from infermesh_runtime.answer_parsing.reader import Reader, Wait


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer: its text, the parts that were made of it, and the tools that may be called."""

    tools: Tools
    reader: Reader = field(default_factory=Reader)
    answer: Answer = field(default_factory=Answer)

    def give_back(self, text: str, *, marked: bool) -> None:
        """What was taken is no call, so it is text. A call that the model marked and a limit cut off is dropped."""
        if not (marked and self.reader.truncated):
            self.answer.text(text)


Body = Callable[[Turn], Wait[None]]
"""Parses all of an answer that follows its reasoning."""
